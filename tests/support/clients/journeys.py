"""A deployment that failures are made to happen to: real processes, another program's client, an account at the end."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from itertools import count
from typing import Any
from uuid import uuid4

from fastavro import parse_schema, schemaless_reader, schemaless_writer

from tests.acceptance import outsider, outsider_evidence
from tests.support.clients.clients import Client, Outgoing, Seen
from tests.support.engine.codecs import MARKET, NOON, RECORD
from tests.support.engine.codecs import TICK as EVERY_FIELD
from tests.support.engine.streams import messages_of
from tests.support.faults.held_copies import HeldCopies
from tests.support.servers.installation import Installation, Said, Serving
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.domain.lane import StreamTopics
from tidemill.domain.partitioner import partition_of
from tidemill.transport.avro.wire import prefix_of_fingerprint

SESSION_S = 6
"""How long a process that died is not missed: the shortest session that a broker allows by default."""


_LANES = (
    "select partition, lane, epoch, owner from tm.lane where aggregate = 'market-data' order by partition"
)
_HALT = """
select code, detail from tm.halt join tm.lane using (lane) where aggregate = 'market-data' and partition = $1
"""
_CONSUMED = """
select coalesce(sum(newest), 0)::bigint as records
from (select max(position) as newest from tm.batch join tm.lane using (lane)
      where aggregate = 'market-data' group by lane) as lanes
"""

_COMMAND = MARKET[RECORD].current
_COMMAND_SCHEMA = parse_schema(json.loads(_COMMAND.text))
_OUTCOME_SCHEMA = parse_schema(
    json.loads(messages_of("outcome")["tidemill.outcome.CommandOutcome"].current.text)
)
_MARKER_AND_FINGERPRINT = 10


class Worker(Serving):
    """A process that serves, to be frozen and killed."""

    def freeze(self) -> None:
        """Stop it in its tracks: its connections stay open, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if no time had passed."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(HANGING_S)

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return its log's lines of one event."""
        return [line for line in self.lines() if line.get("event") == event]

    def intake(self) -> dict[str, Any]:
        """Return what `/health` tells of the intake of market data."""
        return dict(self.health()[1]["services"]["market-data"].get("intake", {}))

    def await_well(self) -> Worker:
        """Wait until it is healthy and works lanes."""
        eventually_blocking(lambda: self.address, what="the address of a process")
        eventually_blocking(self.well, what="a process to be well")
        return self


@dataclass(frozen=True)
class Tick:
    """A command `RecordMarketData` as a service sends it."""

    symbol: str
    price: float = 1.0
    source: str = "journey"
    service_name: str = "journeys"
    correlation_id: str | None = None
    command_id: str = field(default_factory=lambda: str(uuid4()))

    def record(self, partition: int | None = None, headers: Sequence[tuple[str, bytes]] = ()) -> Outgoing:
        """Return the record that carries it, by its key unless `partition` says otherwise."""
        return Outgoing(self.symbol.encode(), self.value, partition, headers)

    @property
    def value(self) -> bytes:
        """Return its bytes in single-object encoding."""
        buffer = BytesIO(prefix := prefix_of_fingerprint(_COMMAND.fingerprint))
        buffer.seek(len(prefix))
        fields = {"time": NOON, "high": None, "low": None}
        schemaless_writer(buffer, _COMMAND_SCHEMA, EVERY_FIELD | fields | asdict(self))
        return buffer.getvalue()


@dataclass
class Deployment:
    """An installation with topics, its processes and its clients. All of them end with the test."""

    installation: Installation
    partitions: int
    exit_stack: ExitStack
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def client(self) -> Client:
        return Client(self.installation.environment["TIDEMILL_KAFKA_BOOTSTRAP"])

    @property
    def topics(self) -> StreamTopics:
        """The topics of market data."""
        return StreamTopics.of("market-data", prefix=self.installation.prefix)

    def __call__(self, *arguments: str, stdin: str = "", expect: int | None = 0) -> Said:
        """Call the program as an operator does."""
        return self.installation(*arguments, stdin=stdin, expect=expect)

    # --- processes ---

    def launch(self, process: str = "commands", **environment: str) -> Worker:
        """Start a process, without waiting for anything."""
        folder = self.installation.folder / f"{next(self._numbers)}-{process}"
        folder.mkdir()
        starting = replace(self.installation, folder=folder).starting(process, **environment)
        serving = self.exit_stack.enter_context(starting)
        return Worker(serving.process, serving.log)

    def start(self, process: str = "commands", **environment: str) -> Worker:
        """Start a process; it is well when this returns."""
        return self.launch(process, **environment).await_well()

    # --- commands ---

    def symbol(self, partition: int, stem: str = "S") -> str:
        """Return a symbol whose lane is that of `partition`."""
        names = (f"{stem}{number}" for number in count())
        return next(name for name in names if partition_of(name.encode(), self.partitions) == partition)

    def ticks(self, each: int, *partitions: int, **fields: Any) -> list[Tick]:
        """Return `each` commands per partition, the partitions in turn; by default those of all."""
        symbols = [self.symbol(partition) for partition in partitions or range(self.partitions)]
        return [Tick(symbol, price=float(number), **fields) for number in range(each) for symbol in symbols]

    def send(self, ticks: Sequence[Tick], **options: Any) -> set[str]:
        """Send commands; return their ids when all are acknowledged."""
        self.client.send(self.topics.commands, [tick.record() for tick in ticks], **options)
        return {tick.command_id for tick in ticks}

    def next_tick(self, number: int) -> tuple[str, Outgoing]:
        """Return the n-th command of a feed, its id and its record."""
        tick = Tick(f"F{number % 97}", price=float(number))
        return tick.command_id, tick.record()

    # --- what became of them ---

    def outcomes(self) -> list[dict[str, Any]]:
        """Return the outcome topic, decoded, in order of partition and position."""
        return [decoded(seen) for seen in self.client.read(self.topics.outcomes)]

    def await_records(self, topic: str, count: int) -> list[Seen]:
        """Return what a topic holds once that is at least `count` records."""

        def enough() -> list[Seen] | None:
            seen = self.client.read(topic)
            return seen if len(seen) >= count else None

        return eventually_blocking(enough, what=f"{count} records in {topic}") or []

    def rows(self) -> Counter[str]:
        """Return how many rows the table has of each command."""
        found = self.installation.fetch("select command_id::text as id from public.market_data")
        return Counter(row["id"] for row in found)

    def consumed(self) -> int:
        """Return how many records of market data the ledger counts."""
        return int(self.installation.fetch(_CONSUMED)[0]["records"])

    def await_consumed(self, records: int, timeout_s: float = HANGING_S) -> None:
        """Wait until the ledger counts so many records."""
        eventually_blocking(lambda: self.consumed() >= records, timeout_s, f"{records} records consumed")

    def lanes(self) -> list[Any]:
        """Return the lanes of market data by partition: `partition`, `lane`, `epoch`, `owner`."""
        return self.installation.fetch(_LANES)

    def await_halt(self, partition: int, timeout_s: float = HANGING_S) -> tuple[str, str]:
        """Wait until a lane stands still; return the code and the evidence."""
        found = eventually_blocking(
            lambda: self.installation.fetch(_HALT, partition), timeout_s, f"partition {partition} to halt"
        )
        return found[0]["code"], found[0]["detail"]

    def assert_conserved(self, acknowledged: Collection[str], *, projecting: bool = False) -> None:
        """Nothing is lost and nothing is doubled, by the audit's account and by an outsider's.

        Every acknowledged command has exactly one outcome, the table has the rows of those that were applied, events
        are numbered densely, and none is there twice for a reader of committed records. `projecting`: a process of the
        journey keeps the read models up to date.
        """
        if not projecting:
            self.launch("projections")
        said = self("audit", "--wait", "300", expect=None)
        assert said.code == 0, said.out
        outcomes = self.outcomes()
        told = Counter(outcome["command_id"] for outcome in outcomes)
        assert {name: told[name] for name in acknowledged} == dict.fromkeys(acknowledged, 1)
        applied = {outcome["command_id"] for outcome in outcomes if outcome["outcome"] == "applied"}
        assert self.rows() == Counter(applied)
        events = self.client.read(self.topics.events)
        assert_dense(events)
        assert Counter(seen.text("ce_id") for seen in events) == Counter(f"{name}:1" for name in applied)

    def assert_balanced_by_an_outsider(self) -> None:
        """Every hop balances, the read models are what their events say, for one who knows none of our code."""
        findings = outsider.balance(self.evidence())
        assert not findings, "\n".join(map(str, findings))

    def evidence(self) -> outsider_evidence.Evidence:
        """Return all that an outsider can see."""
        bootstrap = self.installation.environment["TIDEMILL_KAFKA_BOOTSTRAP"]
        return asyncio.run(outsider_evidence.collect(self.installation.database, bootstrap))

    def hold_copies(self) -> HeldCopies:
        """Hold every COPY into the outbox until it is released, at the latest when the test ends."""
        held = HeldCopies(self.installation.database)
        self.exit_stack.callback(held.release)
        return held


def decoded(seen: Seen) -> dict[str, Any]:
    """Return the fields of an outcome."""
    assert seen.value is not None
    found = schemaless_reader(BytesIO(seen.value[_MARKER_AND_FINGERPRINT:]), _OUTCOME_SCHEMA, None)
    assert isinstance(found, dict)
    return found


def assert_dense(events: Iterable[Seen]) -> None:
    """Events are numbered 1, 2, 3 ... in every partition."""
    numbers: dict[int, list[int]] = defaultdict(list)
    for seen in events:
        numbers[seen.partition].append(int(seen.text("tm_sequence")))
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values()), numbers
