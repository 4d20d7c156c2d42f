"""What every `ChunkReader` promises, asked of the fake and of the one that reads a database."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from tests.fakes.archiver import MemoryReader, Rows
from tests.support.servers.databases import execute
from tidemill.archiver.ports import ChunkReader
from tidemill.domain.errors import TidemillError, Unavailable
from tidemill.storage.retention.chunk_reader import DatabaseChunks

MANY = "select n::bigint as n from generate_series(1, 100000) n"


class World(Protocol):
    """A reader, one whose database is unavailable, and how many rows a batch has."""

    reader: ChunkReader
    away: ChunkReader

    def count(self, batch: Any) -> int: ...


class MemoryWorld:
    def __init__(self) -> None:
        reader, away = MemoryReader(), MemoryReader()
        reader.answers[MANY] = [
            Rows(tuple((n,) for n in range(start, start + 1_000))) for start in range(100)
        ]
        reader.answers["select 1 as n where false"] = []
        away.answers[MANY] = [Unavailable("database", "away")]
        self.reader: ChunkReader = reader
        self.away: ChunkReader = away

    def count(self, batch: Any) -> int:
        return len(batch.rows)


class DatabaseWorld:
    def __init__(self, url: str) -> None:
        execute(url, "create table t (n int)")
        self.reader: ChunkReader = DatabaseChunks(url, batch_bytes=1 << 14)
        self.away: ChunkReader = DatabaseChunks("postgresql://nobody@127.0.0.1:1/nowhere")

    def count(self, batch: Any) -> int:
        return int(batch.num_rows)


@pytest.fixture(params=["memory", "database"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return MemoryWorld()
    return DatabaseWorld(request.getfixturevalue("database"))


def test_rows_come_in_batches_that_say_their_size(world: World) -> None:
    batches = list(world.reader.read(MANY))
    assert sum(world.count(batch) for batch in batches) == 100_000
    assert len(batches) > 10
    assert all(0 < batch.nbytes < 1 << 20 for batch in batches)


def test_batches_are_no_larger_than_asked_for(world: World) -> None:
    batches = list(world.reader.read(MANY, 4_096))
    assert sum(world.count(batch) for batch in batches) == 100_000
    assert all(0 < batch.nbytes < 8_192 for batch in batches)


def test_no_rows_are_no_fault(world: World) -> None:
    assert sum(world.count(batch) for batch in world.reader.read("select 1 as n where false")) == 0


def test_it_may_be_closed_early_and_read_again(world: World) -> None:
    reading = world.reader.read(MANY)
    next(reading)
    reading.close()
    with pytest.raises(StopIteration):
        next(reading)
    assert sum(world.count(batch) for batch in world.reader.read(MANY)) == 100_000


@pytest.mark.parametrize("statement", ["select * from nothing_here", "insert into t values (1) returning n"])
def test_what_is_refused_is_no_outage(world: World, statement: str) -> None:
    with pytest.raises(TidemillError) as caught:
        list(world.reader.read(statement))
    assert not isinstance(caught.value, Unavailable)


def test_a_database_that_is_away_is_an_outage(world: World) -> None:
    with pytest.raises(Unavailable):
        list(world.away.read(MANY))
