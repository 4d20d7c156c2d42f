"""What an outsider can see: every record of the topics, every row of the tables, and the Avro files that are published.

Nothing of Tidemill's code is used here: aiokafka, asyncpg, fastavro and pyarrow, and what the documentation says.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import fastavro
import pyarrow.parquet as pq
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.acceptance.outsider_packs import waiting_in_pack

SCHEMAS = Path(__file__).parents[2] / "schemas"
PAGE = Path(__file__).parents[2] / "docs" / "collections.md"
SERVICES = UUID("6d0f3a70-4f3c-5c1e-9b1a-7a1d5c0e7e11")  # namespace of ids that are no UUIDs, by service
ROLES = {
    "command": "command topic",
    "event": "event topic",
    "outcome": "outcome topic",
    "dead_letter": "dead letter topic",
}
TABLES = {
    "lane": "tm.lane",
    "log": "tm.log",
    "ledger": "tm.batch",
    "outbox": "tm.outbox",
    "pack": "tm.pack",
    "parked": "tm.parked",
    "checkpoint": "tm.checkpoint",
    "archive": "tm.archive",
    "market_data": "public.market_data",
    "latest_quotes": "public.latest_quotes",
    "daily_bars": "public.daily_bars",
    "connector_profiles": "public.connector_profiles",
    "connector_directory": "public.connector_directory",
}
LATE = "tm_late.public__market_data"
OWN_SERVICES = frozenset({"tidemill.expiry", "tidemill.superseded"})
"""What the service decides by itself, in the log of any lane, names one of these as its service."""
ARCHIVAL = "archival"
"""The archive's stream: what comes in are confirmations, and what its owner decides is in the log, too."""


@dataclass(frozen=True)
class Record:
    """A record of a topic as Kafka holds it."""

    aggregate: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def place(self) -> tuple[str, int, int]:
        return self.aggregate, self.partition, self.offset

    def header(self, name: str) -> str:
        """Return the last header of that name as text."""
        return (self._last[name] or b"").decode()

    @cached_property
    def _last(self) -> dict[str, bytes | None]:
        return dict(self.headers)


Row = Mapping[str, Any]


@dataclass(frozen=True)
class Collection:
    """A collection as its documentation describes it. `steps`: by event, the status after it and the filled fields.

    `emptied`: what the fields hold after a deletion, where it empties them.
    """

    aggregate: str
    key: str
    fields: tuple[str, ...]
    status: str
    steps: Mapping[str, tuple[str, tuple[str, ...]]]
    emptied: Mapping[str, Any]

    @property
    def entity(self) -> str:
        """The name of which its events are made."""
        return "".join(word.title() for word in self.key.split("_")[:-1])


@dataclass(frozen=True)
class FactTable:
    """A table of facts as its documentation describes it.

    `many`: the field with the facts, None where a command is one; `own`: what each has.
    """

    aggregate: str
    columns: tuple[str, ...]
    many: str | None
    own: frozenset[str]


_NO_TIME = datetime.min  # noqa: DTZ901  as the driver reads `-infinity`
EMPTY: Mapping[str, Any] = {"jsonb": "{}", "timestamptz": _NO_TIME, "text": ""}
"""What a field that may not be null holds once it is emptied, by its type."""


@lru_cache(maxsize=1)
def collections() -> Mapping[str, Collection]:
    """Return the built-in collections of entities, as `docs/collections.md` has them."""
    found = {}
    for name, text, tables in _sections():
        if "field" not in tables:
            continue
        fields = {row[0]: row for row in tables["field"] if row[5] != "the engine"}
        steps = {
            event: (to, tuple(row[0] for row in fields.values() if step in row[5].split(", ")))
            for step, event, _, to in tables.get("step", [])
        }
        status = fields["status"][3] if "status" in fields else ""
        ends = list(fields.values()) if "Deletion: `hard`" in text else []
        found[name] = Collection(
            _word("Topics", text),
            _word("Key", text),
            tuple(fields),
            status,
            steps,
            {row[0]: EMPTY[row[1]] if row[2] == "no" else None for row in ends},
        )
    return found


@lru_cache(maxsize=1)
def fact_tables() -> Mapping[str, FactTable]:
    """Return the built-in tables of facts, as `docs/collections.md` has them."""
    found = {}
    for name, text, tables in _sections():
        if "column" not in tables:
            continue
        columns = {row[0]: row[5] for row in tables["column"] if row[5] != "the engine"}
        many = next(iter(set(columns.values()) - {"the command"}), None)
        own = frozenset(column for column, place in columns.items() if place == many)
        found[name] = FactTable(_word("Topics", text), tuple(columns), many, own)
    return found


@lru_cache(maxsize=1)
def point_tables() -> Mapping[str, tuple[str, ...]]:
    """Return the tables of the points of time series with their columns, as `docs/collections.md` has them."""
    return {
        name: tuple(row[0] for row in tables["point"]) for name, _, tables in _sections() if "point" in tables
    }


def _sections() -> Iterator[tuple[str, str, dict[str, list[list[str]]]]]:
    """Yield the sections of the page: collection, text, its tables by their first heading."""
    for part in PAGE.read_text().split("\n## ")[1:]:
        name, _, text = part.partition("\n")
        tables = [
            [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in block.splitlines()]
            for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
        ]
        yield name, " ".join(text.split()), {table[0][0]: table[2:] for table in tables}


def _word(label: str, text: str) -> str:
    return str(re.findall(rf"{label}: `(.*?)`", text)[0])


@dataclass
class Evidence:
    """All records by role (`command topic`, ...) and all rows by table (`log`, ...); `lake`: rows with their `file`."""

    topics: dict[str, list[Record]]
    tables: dict[str, list[Row]]


# --- collecting ------------------------------------------------------------------------------------------------------


async def read_tables(connection: Any) -> dict[str, list[Row]]:
    """Return every table whole, and every collection that there is."""
    tables = TABLES | {"late": LATE}
    for name in [*collections(), *fact_tables(), *point_tables()]:
        if await connection.fetchval("select to_regclass($1)", f"public.{name}"):
            tables[name] = f"public.{name}"
    return {name: await connection.fetch(f"select * from {table}") for name, table in tables.items()}


def read_lake(root: Path) -> list[Row]:
    """Return every row of market data in the lake, with the path of its `file`."""
    return [
        row | {"file": str(file)}
        for file in sorted(root.glob("public.market_data/*.parquet"))
        for row in pq.ParquetFile(file).read().to_pylist()
    ]


async def read_topics(bootstrap: str, lanes: Sequence[Row]) -> dict[str, list[Record]]:
    """Return every topic of the lanes whole, by role."""
    found = {}
    for role, place in ROLES.items():
        partitions = {
            TopicPartition(lane[f"{role}_topic"], lane["partition"]): lane["aggregate"] for lane in lanes
        }
        found[place] = [record async for record in _dump(bootstrap, partitions)]
    return found


async def _dump(bootstrap: str, partitions: Mapping[TopicPartition, str]) -> AsyncIterator[Record]:
    """Yield what is in these partitions; they are given with their aggregates."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign(list(partitions))
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(list(partitions))
        while [tp for tp in partitions if await consumer.position(tp) < ends[tp]]:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                for each in records:
                    headers = tuple(each.headers)
                    yield Record(partitions[tp], tp.partition, each.offset, each.key, each.value, headers)
    finally:
        await consumer.stop()


async def collect(database: str, bootstrap: str, lake: str | Path | None = None) -> Evidence:
    """Return all evidence. `lake`: the folder that copies go to, if anything has left."""
    connection = await asyncpg.connect(database)
    try:
        tables = await read_tables(connection)
    finally:
        await connection.close()
    tables["lake"] = read_lake(Path(lake)) if lake else []
    return Evidence(await read_topics(bootstrap, tables["lane"]), tables)


# --- reading Avro ----------------------------------------------------------------------------------------------------


@lru_cache
def schema(full_name: str) -> Any:
    """Return the schema of a message from its .avsc file."""
    files = [
        path for path in SCHEMAS.rglob(f"{full_name.rpartition('.')[2]}.avsc") if "released" not in path.parts
    ]
    return fastavro.parse_schema(json.loads(files[0].read_text()))


@lru_cache(maxsize=100_000)  # the same records are balanced again and again
def read(value: bytes, full_name: str) -> Mapping[str, Any]:
    """Return the fields of a framed value: behind `00` and a schema's id, or `c3 01` and its fingerprint."""
    body = BytesIO(value[5:] if value[0] == 0 else value[10:])
    fields: Any = fastavro.schemaless_reader(body, schema(full_name), None)
    if body.read(1):
        raise ValueError(f"bytes are left behind a {full_name}")
    return dict(fields)


@lru_cache(maxsize=100_000)
def identity(command_id: str, service: str) -> UUID:
    """Return what makes a command the same: the id if it is a UUID, else its name in the namespace of its service."""
    try:
        known = UUID(command_id)
    except ValueError:
        known = None
    if known is not None and str(known) == command_id.lower():  # UUID takes much that is not written as one
        return known
    return uuid5(uuid5(SERVICES, service), command_id)


# --- in order --------------------------------------------------------------------------------------------------------


class EvidenceIndex:
    """The evidence, put in order: by lane, where (aggregate, partition) names it."""

    def __init__(self, evidence: Evidence) -> None:
        self.topics = evidence.topics
        self.tables = evidence.tables
        lanes = {row["lane"]: (row["aggregate"], row["partition"]) for row in evidence.tables["lane"]}
        self.lanes = list(lanes.values())
        self.log = self._placed("log", lanes)
        self.ledger = self._placed("ledger", lanes)
        packed = (row for pack in self._placed("pack", lanes) for row in waiting_in_pack(pack))
        self.outbox = [*self._placed("outbox", lanes), *packed]
        self.parked = self._placed("parked", lanes)
        self.commands = self._by_lane("command topic")
        self.events = self._by_lane("event topic")
        self.orders = Counter(row["place"] for row in self.log if self.is_order(row))

    @staticmethod
    def is_order(row: Row) -> bool:
        """Return whether a row of the log is of a decision of the service itself: no record caused it."""
        return bool(row["type"] == "tidemill.archival.ArchivalEvent") or row["service"] in OWN_SERVICES

    def _placed(self, table: str, lanes: Mapping[int, tuple[str, int]]) -> list[Row]:
        return [dict(row) | {"place": lanes[row["lane"]]} for row in self.tables[table]]

    def _by_lane(self, role: str) -> dict[tuple[str, int], list[Record]]:
        found: dict[tuple[str, int], list[Record]] = {lane: [] for lane in self.lanes}
        for record in sorted(self.topics[role], key=lambda record: record.offset):
            found[record.aggregate, record.partition].append(record)
        return found

    def told(self) -> Iterator[tuple[Record, Mapping[str, Any]]]:
        """Yield events with their fields, lane by lane, in order."""
        for records in self.events.values():
            for record in records:
                assert record.value is not None
                yield record, read(record.value, record.header("ce_type"))
