"""Whether two deployments that were fed alike look alike to their subscribers and to SQL.

    python -m benchmarks.equality --left postgresql://.../a 127.0.0.1:9092 a --right postgresql://.../b 127.0.0.1:9092 b

Reads every topic below each prefix (confluent-kafka, read_committed), every public table and what the database keeps
about each record, and nothing of Tidemill's code. Equal have to be: per partition, the records in order, each with its
key, value and headers in their order; the rows of tables, in any order. Left out is what tells when and where
something happened: `ce_time`, the times and durations of outcomes, columns of the server's clock, numbers of lanes, the
prefix of topics, ciphertexts, of which only the length is compared, and which migrations were applied. Exit code 0:
alike; 1: not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import asyncpg
import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

OUTCOME: Final = Path(__file__).resolve().parents[1] / "schemas" / "outcome" / "CommandOutcome.avsc"
SHOWN: Final = 5
"""How many differences of one place are shown; all are counted."""

_TIMEOUT_S: Final = 60.0
_SEALED = re.compile(rb"tms1:\d+:[A-Za-z0-9_-]+")
_OWN_HEADERS: Final = frozenset({"ce_time"})
_OWN_FIELDS: Final = frozenset({"execution_time", "recorded_at"})
_OWN_COLUMNS: Final = frozenset(
    {"created_at", "updated_at", "id", "uuid", "lane", "open_lane", "close_lane", "open_expires_at"}
)

Row = tuple[Hashable, ...]


@dataclass(frozen=True)
class Side:
    """A deployment: the URL of its database, its broker, the prefix of its topics."""

    database: str
    kafka: str
    prefix: str

    def without_prefix(self, text: bytes) -> bytes:
        """Return a text in which no topic has this side's prefix."""
        return self._topics.sub(rb"*\1", text)

    @cached_property
    def _topics(self) -> re.Pattern[bytes]:
        return re.compile(
            re.escape(self.prefix).encode() + rb"(\.*[a-z0-9-]+\.(?:commands|events|outcomes)\.v\d)"
        )


@dataclass(frozen=True)
class Difference:
    """What is not alike. `place`: a partition of a topic, or a table. A side that has nothing there is empty."""

    place: str
    left: str
    right: str


@dataclass(frozen=True)
class Picture:
    """What a side shows, by place. `sequences`: in order; `bags`: in any order, with the names of the columns."""

    sequences: Mapping[str, Sequence[Row]]
    bags: Mapping[str, tuple[Sequence[str], Counter[Row]]]


# --- what subscribers see --------------------------------------------------------------------------------------------


def read_topics(side: Side) -> dict[str, list[Row]]:
    """Return the committed records of every topic below the prefix: (key, value, headers), by `topic/partition`."""
    consumer = Consumer(
        {
            "bootstrap.servers": side.kafka,
            "log_level": 0,
            "group.id": f"{side.prefix}-equality",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        partitions = [
            TopicPartition(name, number, 0)
            for name, topic in consumer.list_topics(timeout=_TIMEOUT_S).topics.items()
            if name.startswith(side.prefix)
            for number in topic.partitions
        ]
        found: dict[str, list[Row]] = {_place(side, at.topic, at.partition): [] for at in partitions}
        consumer.assign(partitions)
        for place, row in _records(consumer, side, set(found)):
            found[place].append(row)
        return found
    finally:
        consumer.close()


def _place(side: Side, topic: str, partition: int) -> str:
    return f"{topic.removeprefix(side.prefix).lstrip('.')}/{partition}"


def _records(consumer: Consumer, side: Side, places: set[str]) -> Iterator[tuple[str, Row]]:
    """Yield the records of the partitions that are assigned, each until its last stable offset, with their places."""
    while places:
        message = consumer.poll(_TIMEOUT_S)
        if message is None:
            raise SystemExit("Kafka does not answer: is the broker there?")
        error, place = message.error(), _place(side, str(message.topic()), int(message.partition() or 0))
        if error is None:
            yield place, _record(side, message)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  it has no public name
            places.discard(place)
        else:
            raise KafkaException(error)


def _record(side: Side, message: Any) -> Row:
    headers = tuple(
        (name, None if value is None else _SEALED.sub(_masked, side.without_prefix(value)))
        for name, value in message.headers() or ()
        if name not in _OWN_HEADERS
    )
    value = message.value()
    if dict(headers).get("ce_type") == b"tidemill.outcome.CommandOutcome":
        return message.key(), _outcome(value, side), headers
    return message.key(), None if value is None else _SEALED.sub(_masked, value), headers


def _masked(sealed: re.Match[bytes]) -> bytes:
    """Return what of a ciphertext is the same whenever the same text is encrypted: its length."""
    return b"*" * len(sealed[0])


def _outcome(value: bytes, side: Side) -> Row:
    """Return the fields of an outcome, without its times. Framed by `00` and an id, or by `c3 01` and a fingerprint."""
    body = BytesIO(value[5:] if value[0] == 0 else value[10:])
    fields: Any = fastavro.schemaless_reader(body, _outcome_schema(), None)
    told = ((name, field) for name, field in fields.items() if name not in _OWN_FIELDS)
    return tuple(
        (name, side.without_prefix(field.encode()).decode() if isinstance(field, str) else field)
        for name, field in told
    )


@cache
def _outcome_schema() -> Any:
    return fastavro.parse_schema(json.loads(OUTCOME.read_text()))


# --- what SQL sees ---------------------------------------------------------------------------------------------------

_TABLES = """
select c.relname as name, array_agg(a.attname order by a.attnum)::text[] as columns
from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
where n.nspname = 'public' and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
  and a.attnum > 0 and not a.attisdropped and c.relname not in ('tidemill_migration', 'tidemill_version')
group by c.relname order by c.relname
"""

KEPT: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "tm.log": (
        "tm.log join tm.lane using (lane)",
        (
            *(
                "aggregate",
                "partition",
                "position",
                "command_id",
                "digest & 4294967295",
                "outcome",
                "events",
                "sequence",
            ),
            *("tm.log.rows", "type", "service", "code", "detail", "repeats"),
        ),
    ),
    "tm.batch": (
        """(select distinct on (lane) lane, position, sequence, chain, timeline, to_offset from tm.batch
            order by lane, batch desc) newest join tm.lane using (lane)""",
        ("aggregate", "partition", "position", "sequence", "chain", "timeline", "to_offset"),
    ),
    "tm.parked": (
        "tm.parked join tm.lane using (lane)",
        (
            "aggregate",
            "tm.parked.partition",
            "position",
            "record_offset",
            "key",
            "value",
            "headers",
            "code",
            "detail",
            "state",
        ),
    ),
    "tm.checkpoint": ("tm.checkpoint", ("projection", "incarnation", "aggregate", "partition", "sequence")),
}
"""What the database keeps of each record: where it is, and the columns that have to be equal."""


async def read_tables(side: Side) -> dict[str, tuple[Sequence[str], Counter[Row]]]:
    """Return the rows of every public table and view, and what is kept of each record, with the columns' names."""
    connection = await asyncpg.connect(side.database)
    try:
        places = {
            f"public.{name}": (
                f'public."{name}"',
                [column for column in columns if column not in _OWN_COLUMNS],
            )
            for name, columns in await connection.fetch(_TABLES)
        }
        return {
            name: (list(columns), await _rows(connection, side, source, columns))
            for name, (source, columns) in [*places.items(), *KEPT.items()]
        }
    finally:
        await connection.close()


async def _rows(connection: Any, side: Side, source: str, columns: Sequence[str]) -> Counter[Row]:
    """Return the rows as the server writes them: text tells -0 from 0, and each double from its neighbours."""
    chosen = ", ".join(f"({column})::text" for column in columns)
    rows: Counter[Row] = Counter()
    async with connection.transaction(readonly=True):
        async for row in connection.cursor(f"select {chosen} from {source}", prefetch=5_000):
            rows[tuple(_text(side, value) for value in row)] += 1
    return rows


def _text(side: Side, value: str | None) -> str | None:
    return None if value is None else _SEALED.sub(_masked, side.without_prefix(value.encode())).decode()


# --- comparing -------------------------------------------------------------------------------------------------------


def differences(left: Picture, right: Picture) -> Iterator[Difference]:
    """Yield what is not alike."""
    for place in sorted(left.sequences.keys() | right.sequences.keys()):
        yield from _of_sequences(place, left.sequences.get(place), right.sequences.get(place))
    for place in sorted(left.bags.keys() | right.bags.keys()):
        yield from _of_bags(place, left.bags.get(place), right.bags.get(place))


def _of_sequences(
    place: str, left: Sequence[Row] | None, right: Sequence[Row] | None
) -> Iterator[Difference]:
    if left is None or right is None:
        yield Difference(place, _there(left), _there(right))
        return
    for number, (one, other) in enumerate(zip_longest(left, right)):
        if one != other:
            yield Difference(place, f"{number}: {_shown(one)}", f"{number}: {_shown(other)}")


def _of_bags(
    place: str,
    left: tuple[Sequence[str], Counter[Row]] | None,
    right: tuple[Sequence[str], Counter[Row]] | None,
) -> Iterator[Difference]:
    if left is None or right is None or left[0] != right[0]:
        yield Difference(place, _columns(left), _columns(right))
        return
    one, other = left[1] - right[1], right[1] - left[1]
    ordered = (sorted(rows.elements(), key=repr) for rows in (one, other))
    for lacking, surplus in zip_longest(*ordered):
        yield Difference(place, _shown(lacking), _shown(surplus))


def _there(rows: Sequence[Row] | None) -> str:
    return "no such partition" if rows is None else f"{len(rows)} records"


def _columns(table: tuple[Sequence[str], Counter[Row]] | None) -> str:
    return "no such table" if table is None else ", ".join(table[0])


def _shown(row: Row | None) -> str:
    return "" if row is None else repr(row)


# --- the program -----------------------------------------------------------------------------------------------------


def look(side: Side) -> Picture:
    """Read all that a side shows."""
    return Picture(read_topics(side), asyncio.run(read_tables(side)))


def report(found: Sequence[Difference], console: Console) -> None:
    """Print the first differences of each place, and how many each has."""
    if not found:
        console.print("alike: topics, tables, and what the database keeps of each record")
        return
    counts = Counter(difference.place for difference in found)
    for place, count in counts.items():
        table = Table("left", "right", title=f"{place}: {count} differ", title_justify="left")
        for difference in [difference for difference in found if difference.place == place][:SHOWN]:
            table.add_row(difference.left, difference.right)
        console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two deployments; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.equality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("left", "right"):
        parser.add_argument(f"--{name}", nargs=3, required=True, metavar=("DATABASE", "KAFKA", "PREFIX"))
    parser.add_argument("--json", action="store_true", help="print every difference as JSON")
    options = parser.parse_args(arguments)
    sides = [Side(*options.left), Side(*options.right)]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        pictures = [look(side) for side in progress.track(sides, description="reading")]
    found = list(differences(*pictures))
    if options.json:
        print(json.dumps([asdict(difference) for difference in found], indent=1))
    else:
        report(found, Console())
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
