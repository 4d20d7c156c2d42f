"""`tidemill serve archiver` as a deployment runs it, killed where it hurts."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.archive.archivers import RetentionSide, request_for
from tests.support.servers.installation import Installation, Serving
from tests.support.waiting import HANGING_S, eventually, eventually_blocking
from tidemill.app.processes.base import NICENESS
from tidemill.domain.archive.messages import ArchivalStatus
from tidemill.lakehouse.iceberg import open_catalog
from tidemill.storage.database.pool import Connection
from tidemill_devkit.stack import Stack

pytestmark = pytest.mark.slow

COMPLETED, IN_PROGRESS = ArchivalStatus.COMPLETED, ArchivalStatus.IN_PROGRESS
TABLE = "public.ticks"
SLOWLY = {"TIDEMILL_ARCHIVER_MAX_BYTES_PER_SECOND": "200000"}


@pytest.fixture
async def ticks(session: Connection, reading_role: str) -> Connection:
    """Four days of rows, 480 KB each in memory."""
    await session.execute("create table ticks (time timestamptz not null, price float8, size bigint)")
    await session.execute(
        "select create_hypertable('ticks', 'time', chunk_time_interval => interval '1 day')"
    )
    await session.execute(
        "insert into ticks select timestamptz '2024-05-01 00:00+00' + interval '4.32 s' * n, n / 7.0, n "
        "from generate_series(0, 79999) n"
    )
    await session.execute(f"grant select on ticks to {reading_role}")
    return session


@pytest.fixture
def installation(
    stack: Stack,
    reading_url: str,
    prefix: str,
    retention_side: RetentionSide,
    tmp_path: Path,
    unique_name: Callable[[str], str],
) -> Installation:
    """Settings that know Kafka, the reading login and the lake."""
    environment = {
        "TIDEMILL_DATABASE_ARCHIVER_URL": reading_url,
        "TIDEMILL_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "TIDEMILL_KAFKA_SESSION_S": "6",
        "TIDEMILL_TOPICS_PREFIX": prefix,
        "TIDEMILL_LAKE_ROOT": str(tmp_path / "lake"),
        "TIDEMILL_ARCHIVER_ID": unique_name("archiver"),
    }
    return Installation(environment, tmp_path)


def lake_of(installation: Installation) -> Path:
    return Path(installation.environment["TIDEMILL_LAKE_ROOT"])


def manifests(installation: Installation) -> list[Path]:
    return sorted(lake_of(installation).rglob("*.manifest.json"))


def files(installation: Installation) -> list[Path]:
    return sorted(lake_of(installation).rglob("*.parquet"))


def metric(serving: Serving, pattern: str) -> float:
    with urllib.request.urlopen(f"{serving.address}/metrics", timeout=HANGING_S) as answer:
        found = re.search(rf"^tidemill_{pattern} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_it_copies_answers_and_drains(
    ticks: Connection, retention_side: RetentionSide, installation: Installation
) -> None:
    asked = await request_for(ticks, TABLE, "time", "event-1")
    await retention_side.announce(asked)
    with installation.serving("archiver") as serving:
        [answer] = await retention_side.settled(1, 60)
        assert answer.status is COMPLETED
        assert answer.archiver_id == installation.environment["TIDEMILL_ARCHIVER_ID"]
        assert metric(serving, "archiver_rows_total") == 80_000
        assert metric(serving, r'archiver_requests_total\{result="completed"\}') == 1
        assert metric(serving, r'archiver_chunks_total\{result="copied"\}') == 4
        status, health = serving.health()
        assert status == 200
        assert health["dependencies"].keys() == {"database", "kafka"}
        assert health["services"]["archiver"]["requests"] == 1
        assert serving.stop() == 0
    assert len(manifests(installation)) == len(files(installation)) == 4
    secret = installation.environment["TIDEMILL_DATABASE_ARCHIVER_URL"].split(":")[2].split("@")[0]
    assert secret not in (installation.folder / "archiver.log").read_text()


async def test_killed_with_some_chunks_complete_it_goes_on_with_the_others(
    ticks: Connection, retention_side: RetentionSide, installation: Installation
) -> None:
    asked = await request_for(ticks, TABLE, "time", "event-1")
    await retention_side.announce(asked)
    with installation.serving("archiver", **SLOWLY) as serving:
        eventually_blocking(lambda: manifests(installation), what="a first copy")
        serving.process.kill()
    complete = {path: path.stat().st_mtime_ns for path in files(installation)}
    assert 1 <= len(complete) < 4
    assert {each.status for each in await retention_side.answers()} == {IN_PROGRESS}
    with installation.serving("archiver") as serving:
        [answer] = await retention_side.settled(1, 60)
        assert metric(serving, r'archiver_chunks_total\{result="found"\}') >= 1
        assert serving.stop() == 0
    assert answer.status is COMPLETED
    assert [each.digest for each in answer.chunks] == [chunk.digest for chunk in asked.chunks]
    assert len(files(installation)) == 4
    assert complete.items() <= {path: path.stat().st_mtime_ns for path in files(installation)}.items()


async def test_killed_after_the_last_upload_it_answers_with_what_is_there(
    ticks: Connection, retention_side: RetentionSide, installation: Installation
) -> None:
    """Frozen by the system, so that it cannot answer, then killed."""
    await retention_side.announce(await request_for(ticks, TABLE, "time", "event-1", chunks=slice(0, 1)))
    with installation.serving("archiver") as serving:
        eventually_blocking(lambda: manifests(installation), what="the copy")
        serving.process.kill()
    [copied] = files(installation)
    before = copied.stat().st_mtime_ns
    with installation.serving("archiver") as serving:
        [answer, *_] = await retention_side.settled(1, 60)
        assert os.getpriority(os.PRIO_PROCESS, serving.process.pid) >= NICENESS
        assert serving.stop() == 0
    assert answer.status is COMPLETED
    assert files(installation) == [copied]
    assert copied.stat().st_mtime_ns == before


async def test_a_table_of_iceberg_has_each_copy_once_whatever_was_killed(
    ticks: Connection, retention_side: RetentionSide, installation: Installation, reading_url: str
) -> None:
    role = reading_url.partition("://")[2].partition(":")[0]
    await ticks.execute(f"create schema tidemill_lake authorization {role}")  # all that this login may write
    lake = {"TIDEMILL_LAKE_FORMAT": "iceberg", "TIDEMILL_LAKE_CATALOG_URL": reading_url}
    first = await request_for(ticks, TABLE, "time", "event-1", chunks=slice(0, 2))
    second = await request_for(ticks, TABLE, "time", "event-2", chunks=slice(2, 4))
    await retention_side.announce(first, second)
    with installation.serving("archiver", **SLOWLY, **lake) as serving:
        eventually_blocking(lambda: len(manifests(installation)) >= 2, what="two copies")
        serving.process.kill()
    with installation.serving("archiver", **lake) as serving:
        answers = await retention_side.settled(2, 60)
        await retention_side.announce(first.model_copy(update={"attempt": 2}))
        answers = await retention_side.settled(len(answers) + 1, 60)
        assert serving.stop() == 0
    assert {answer.status for answer in answers} == {COMPLETED}
    assert answers[-1].replayed is True
    catalog = open_catalog(reading_url, str(lake_of(installation)), schema="tidemill_lake")
    table = catalog.load_table(("public", "ticks"))
    assert table.scan().to_arrow().num_rows == 80_000
    assert len(table.snapshots()) == 2
    committed: dict[str, Any] = {key: value for key, value in table.properties.items() if "archived" in key}
    assert committed.keys() == {"tidemill.archived.event-1", "tidemill.archived.event-2"}
    catalog.close()


def test_without_a_lake_it_says_what_to_set(installation: Installation) -> None:
    with installation.starting("archiver", TIDEMILL_LAKE_ROOT="") as serving:
        assert serving.process.wait(HANGING_S) == 2
        assert "TIDEMILL_LAKE_ROOT is not set" in serving.log.read_text()


async def test_topics_that_are_missing_are_waited_for(
    installation: Installation, stack: Stack, unique_name: Callable[[str], str]
) -> None:
    environment = {**installation.environment, "TIDEMILL_TOPICS_PREFIX": unique_name("nowhere")}
    with Installation(environment, installation.folder).starting("archiver") as serving:

        async def said() -> bool:
            return bool(serving.address) and "tidemill topics check" in json.dumps(serving.health()[1])

        await eventually(said, what="that topics are missing")
        assert serving.health()[0] == 503
        assert serving.stop() == 0
