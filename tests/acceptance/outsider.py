"""Conservation, by an outsider: knows topics and tables from the documentation, and nothing of Tidemill's code.

    python -m tests.acceptance.outsider --database postgresql://... --bootstrap 127.0.0.1:9092 --lake /srv/lake

Reads every topic whole (aiokafka, read_committed), every table (asyncpg) and the lake (pyarrow), and balances hop by
hop. What does not balance is named by hop, `from -> to`, or by a place that contradicts itself; exit code 1 then.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

from tests.acceptance.outsider_collections import events_to_collections, events_to_facts
from tests.acceptance.outsider_evidence import (
    ARCHIVAL,
    OWN_SERVICES,
    Evidence,
    EvidenceIndex,
    Record,
    Row,
    collect,
    identity,
    read,
)
from tests.acceptance.outsider_findings import Finding, compare, json_text
from tests.acceptance.outsider_series import events_to_series

OUTCOMES = {b"a": "applied", b"r": "rejected", b"d": "duplicate", b"p": "parked"}
OWNER = "tidemill.retention"
PROJECTIONS = {
    "latest-quotes": "market-data",
    "daily-bars": "market-data",
    "connector-directory": "connector-profiles",
}


# --- balancing -------------------------------------------------------------------------------------------------------


def balance(evidence: Evidence) -> list[Finding]:
    """Return what does not balance; nothing if all does."""
    indexed = EvidenceIndex(evidence)
    return [finding for check in CHECKS for finding in check(indexed)]


def commands_to_log(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Each record of a command topic has one row in the log; positions count records, and the service's own orders."""
    hop = "command topic -> log"
    wanted = [
        (lane, at)
        for lane, records in indexed.commands.items()
        for at in range(1, len(records) + indexed.orders[lane] + 1)
    ]
    yield from compare(hop, wanted, [(row["place"], row["position"]) for row in indexed.log])
    logged: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in sorted(indexed.log, key=lambda row: row["position"]):
        if not indexed.is_order(row):
            logged[row["place"]].append(row)
    for lane, records in indexed.commands.items():
        if lane[0] != ARCHIVAL:  # a confirmation has no id of its own to compare by
            for record, row in zip(records, logged[lane], strict=False):
                yield from _record_to_log(hop, record, row)


def _record_to_log(hop: str, record: Record, row: Row) -> Iterator[Finding]:
    if row["type"] is None:
        return
    try:
        fields = read(record.value or b"\xff", row["type"])
        wanted_id = identity(fields["command_id"], fields["service_name"])
    except (ValueError, EOFError, IndexError) as error:
        yield Finding(hop, f"{record.place} is not the {row['type']} that the log says: {error!r}")
    else:
        if wanted_id != (row["command_id"] or row["repeats"]):
            yield Finding(hop, f"{record.place} is {wanted_id}, the log has {row['command_id']}")


def log_to_ledger(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Batches are numbered without a gap, begin where the last one ended, and count what the log holds."""
    log: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for row in indexed.log:
        log[row["place"]] += Counter({OUTCOMES[row["outcome"]]: 1, "events": row["events"]})
    for lane in indexed.lanes:
        rows = sorted((row for row in indexed.ledger if row["place"] == lane), key=lambda row: row["batch"])
        yield from compare("ledger", range(max(1, len(rows))), [row["batch"] for row in rows])
        for before, row in pairwise(rows):
            yield from compare("ledger", [(lane, before["to_offset"])], [(lane, row["from_offset"])])
        counted = {name: sum(row[name] for row in rows) for name in (*OUTCOMES.values(), "events")}
        yield from compare(
            "log -> ledger",
            [(lane, *sorted((+log[lane]).items()))],
            [(lane, *sorted((+Counter(counted)).items()))],
        )


def commands_to_ledger(indexed: EvidenceIndex) -> Iterator[Finding]:
    """The newest batch ends behind the last record."""
    ends = {lane: records[-1].offset + 1 if records else 0 for lane, records in indexed.commands.items()}
    found = dict.fromkeys(indexed.lanes, 0)
    for row in indexed.ledger:
        found[row["place"]] = max(found[row["place"]], row["to_offset"])
    yield from compare("command topic -> ledger", ends.items(), found.items())


def log_to_outbox(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Each record's outcome and each event waits, or has waited, in the outbox."""
    wanted = [
        (row["place"], row["position"], item) for row in indexed.log for item in range(max(1, row["events"]))
    ]
    found = [(row["place"], row["position"], row["item"]) for row in indexed.outbox]
    yield from compare("log -> outbox + pack", wanted, found)


def log_to_outcomes(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Each row of the log has one outcome message, which says the same; each command record gets one."""
    told = []
    for record in indexed.topics["outcome topic"]:
        assert record.value is not None
        told.append(read(record.value, "tidemill.outcome.CommandOutcome"))
    wanted = [(*row["place"], row["position"], OUTCOMES[row["outcome"]], row["code"]) for row in indexed.log]
    names = ("aggregate", "partition", "position", "outcome", "code")
    yield from compare("log -> outcome topic", wanted, [tuple(each[name] for name in names) for each in told])
    offsets = [
        (each["aggregate"], each["partition"], each["record_offset"])
        for each in told
        if (each["aggregate"] != ARCHIVAL or each["service_name"] != OWNER)
        and each["service_name"] not in OWN_SERVICES  # what it decides answers no record
    ]
    yield from compare(
        "command topic -> outcome topic",
        [each.place for each in indexed.topics["command topic"]],
        offsets,
    )


def log_to_events(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Each applied command has its events in the topic, numbered as the log says, under ids made from its own."""
    wanted = [
        (row["place"], row["sequence"] - row["events"] + item, f"{row['command_id']}:{item}")
        for row in indexed.log
        for item in range(1, row["events"] + 1)
    ]
    found = [
        (lane, int(record.header("tm_sequence")), record.header("ce_id"))
        for lane, records in indexed.events.items()
        for record in records
    ]
    yield from compare("log -> event topic", wanted, found)


def event_topic(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Sequences are dense and in order in each partition, ids are unique, and the chain runs over all of them."""
    for lane, records in indexed.events.items():
        chain = 0
        for expected, record in enumerate(records, start=1):
            sequence, told = int(record.header("tm_sequence")), int(record.header("tm_chain"))
            if sequence != expected:
                yield Finding("event topic", f"{lane}: expected {expected}, got {sequence}")
                break
            link = chain.to_bytes(8, "big", signed=True) + record.header("ce_id").encode()
            chain = int.from_bytes(hashlib.blake2b(link, digest_size=8).digest(), "big", signed=True)
            if chain != told:
                yield Finding("event topic", f"{lane}: the chain breaks at {sequence}")
                break
    ids = Counter(record.header("ce_id") for records in indexed.events.values() for record in records)
    yield from (
        Finding("event topic", f"{name} is there {count} times") for name, count in ids.items() if count > 1
    )


QUOTE = ("symbol", "time", "price", "open", "high", "low", "volume", "source")


def log_to_rows(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Each applied quote is one row, by its id, hot, late or in the lake; and the row holds what the event tells."""
    wanted = [
        row["command_id"]
        for row in indexed.log
        if row["place"][0] == "market-data" and row["outcome"] == b"a"
    ]
    cold = {row["command_id"] for row in indexed.tables["lake"]}
    hot = [row for row in indexed.tables["market_data"] if row["command_id"] not in cold]
    yield from compare(
        "log -> market_data + late + lake",
        wanted,
        [row["command_id"] for row in _everywhere(indexed, hot)],
    )
    told = [
        (identity(fields["command_id"], fields["service_name"]), *(fields[name] for name in QUOTE))
        for record, fields in indexed.told()
        if record.aggregate == "market-data"
    ]
    found = [(row["command_id"], *(row[name] for name in QUOTE)) for row in _everywhere(indexed, hot)]
    yield from compare("event topic -> market_data + late + lake", told, found)


def _everywhere(indexed: EvidenceIndex, hot: Iterable[Row]) -> list[Row]:
    return [*hot, *indexed.tables["late"], *indexed.tables["lake"]]


def archive_to_lake(indexed: EvidenceIndex) -> Iterator[Finding]:
    """What the registry says left is in the lake, file by file; of that, the restored ranges are in the table, too."""
    gone = [row for row in indexed.tables["archive"] if row["state"] in ("dropped", "restored")]
    files = [file for row in gone for file in json.loads(row["verified"])["copy"]["files"]]
    told = Counter[Hashable]({})
    for path, _, rows, _ in files:
        told[path] += rows
    found = Counter(row["file"] for row in indexed.tables["lake"])
    yield from compare("archive -> lake", told.items(), found.items())
    back = {(row["range_start"], row["range_end"]) for row in gone if row["state"] == "restored"}
    cold = {row["command_id"] for row in indexed.tables["lake"]}
    yield from compare(
        "archive -> lake -> market_data",
        [row["command_id"] for row in indexed.tables["lake"] if any(a <= row["time"] < b for a, b in back)],
        [row["command_id"] for row in indexed.tables["market_data"] if row["command_id"] in cold],
    )


def parked_to_dead_letters(indexed: EvidenceIndex) -> Iterator[Finding]:
    """What could not be read is kept as it came, and sent on as it was kept, byte for byte."""
    wanted = [(row["place"], row["position"]) for row in indexed.log if row["outcome"] == b"p"]
    yield from compare("log -> parked", wanted, [(row["place"], row["position"]) for row in indexed.parked])
    kept = [
        (*row["place"], row["record_offset"], row["key"], row["value"], _headers(row))
        for row in indexed.parked
    ]
    there = {
        record.place: (*record.place, record.key, record.value, record.headers)
        for record in indexed.topics["command topic"]
    }
    came = [
        there[row["place"] + (row["record_offset"],)]
        for row in indexed.parked
        if row["place"] + (row["record_offset"],) in there
    ]
    yield from compare("command topic -> parked", came, kept)
    letters = []
    for record in indexed.topics["dead letter topic"]:
        own = [name for name, _ in record.headers].index("__connect.errors.topic")
        offset = int(record.header("__connect.errors.offset"))
        letters.append(
            (record.aggregate, record.partition, offset, record.key, record.value, record.headers[:own])
        )
    yield from compare("parked -> dead letter topic", kept, letters)


def _headers(row: Row) -> tuple[tuple[str, bytes | None], ...]:
    pairs = json.loads(row["headers"])
    return tuple((name, None if text is None else b64decode(text)) for name, text in pairs)


# --- read models, folded again ---------------------------------------------------------------------------------------


def events_to_quotes(indexed: EvidenceIndex) -> Iterator[Finding]:
    """The latest quote of each symbol: newest by time, then by lane and sequence; and a bar for each of its days."""
    latest: dict[str, tuple[Any, ...]] = {}
    bars: dict[tuple[str, Any], list[dict[str, Any]]] = defaultdict(list)
    told: Counter[str] = Counter()
    for record, quote in indexed.told():
        if record.aggregate != "market-data":
            continue
        order = (quote["time"], record.partition, int(record.header("tm_sequence")))
        symbol = quote["symbol"]
        told[symbol] += 1
        bars[symbol, quote["time"].date()].append({**quote, "order": order})
        if symbol not in latest or order > latest[symbol][:3]:
            latest[symbol] = (*order, *(quote[name] for name in QUOTE))
    wanted = [(*row, told[symbol]) for symbol, row in latest.items()]
    found = [
        (row["time"], row["lane"], row["sequence"], *(row[name] for name in QUOTE), row["version"])
        for row in indexed.tables["latest_quotes"]
    ]
    yield from compare("event topic -> latest_quotes", wanted, found)
    names = ("symbol", "day", "open", "high", "low", "close", "volume", "ticks")
    shown = [tuple(row[name] for name in names) for row in indexed.tables["daily_bars"]]
    yield from compare("event topic -> daily_bars", [_bar(*each) for each in bars.items()], shown)


def _bar(key: tuple[str, Any], quotes: list[dict[str, Any]]) -> tuple[Any, ...]:
    quotes.sort(key=lambda quote: quote["order"])
    first = [quote["price"] if quote["open"] is None else quote["open"] for quote in quotes]
    every = [*first, *(quote["price"] for quote in quotes)]
    highs = [quote["high"] for quote in quotes if quote["high"] is not None]
    lows = [quote["low"] for quote in quotes if quote["low"] is not None]
    volume = sum((Decimal(f"{quote['volume'] or 0:.9f}") for quote in quotes), Decimal())
    return (*key, first[0], max(every + highs), min(every + lows), quotes[-1]["price"], volume, len(quotes))


def events_to_profiles(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Profiles and their directory, from the events of each profile in order."""
    profiles: dict[str, dict[str, Any]] = {}
    for record, fields in indexed.told():
        if record.aggregate != "connector-profiles":
            continue
        event = record.header("ce_type").rpartition(".")[2]
        profile = profiles.setdefault(fields["profile_id"], {"active": True, "version": 0})
        if event == "ConnectorProfileRegistered":
            profile["service_name"] = fields["service_name"]
        profile |= {name: fields[name] for name in ("name", "profile_data") if fields.get(name) is not None}
        profile["active"] = event != "ConnectorProfileDeactivated"
        profile["version"] += 1
    names = ("name", "service_name", "active", "version")
    told = {key: tuple(row.get(name) for name in names) for key, row in profiles.items()}
    data = {key: json.loads(row.get("profile_data", "{}")) for key, row in profiles.items()}
    states = [
        (row["id"], *(row[name] for name in names), json_text(json.loads(row["profile_data"])))
        for row in indexed.tables["connector_profiles"]
    ]
    yield from compare(
        "event topic -> connector_profiles",
        [(key, *row, json_text(data[key])) for key, row in told.items()],
        states,
    )
    entries = [
        (row["profile_id"], *(row[name] for name in names), row["type"])
        for row in indexed.tables["connector_directory"]
    ]
    wanted = [(key, *row, data[key].get("type")) for key, row in told.items()]
    yield from compare("event topic -> connector_directory", wanted, entries)


def events_to_checkpoints(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Each read model has folded each lane to its last event."""
    last = {
        lane: int(records[-1].header("tm_sequence")) if records else 0
        for lane, records in indexed.events.items()
    }
    wanted = [
        (name, p, last[aggregate, p])
        for name, of in PROJECTIONS.items()
        for aggregate, p in indexed.lanes
        if aggregate == of
    ]
    found = [(row["projection"], row["partition"], row["sequence"]) for row in indexed.tables["checkpoint"]]
    yield from compare("event topic -> checkpoint", wanted, found)


CHECKS = (
    commands_to_log,
    commands_to_ledger,
    log_to_ledger,
    log_to_outbox,
    log_to_outcomes,
    log_to_events,
    event_topic,
    log_to_rows,
    archive_to_lake,
    parked_to_dead_letters,
    events_to_quotes,
    events_to_profiles,
    events_to_collections,
    events_to_facts,
    events_to_series,
    events_to_checkpoints,
)


def main() -> int:
    """Balance what the arguments name; print and return the result."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--database", default=os.environ.get("TIDEMILL_DATABASE_URL"))
    options.add_argument("--bootstrap", default=os.environ.get("TIDEMILL_KAFKA_BOOTSTRAP"))
    options.add_argument("--lake", default=os.environ.get("TIDEMILL_LAKE_ROOT"))
    given = options.parse_args()
    evidence = asyncio.run(collect(given.database, given.bootstrap, given.lake))
    findings = balance(evidence)
    topics = {
        name: [record for record in records if record.aggregate != ARCHIVAL]
        for name, records in evidence.topics.items()
    }
    counts = {name: len(rows) for name, rows in (topics | evidence.tables).items()}
    result = {
        "balanced": not findings,
        "counted": counts,
        "findings": [found._asdict() for found in findings[:20]],
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
