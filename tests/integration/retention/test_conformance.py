"""`tidemill retention conformance`: the reference archiver passes, a liar fails where it lies, and nothing is left."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.servers.databases import execute, fetch
from tests.support.servers.installation import Installation, installation_on
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.app.connections import kafka_connection, libpq_url, open_registry
from tidemill.app.deployment import Deployment
from tidemill.app.lake import open_lake
from tidemill.archiver.archiver import Archiver
from tidemill.archiver.copier import Copier
from tidemill.catalog.schemas import load_messages
from tidemill.domain.archive.messages import (
    ArchivalConfirmation,
    ArchivalFile,
    ArchivalResult,
    ArchivalStatus,
    archival_topics,
)
from tidemill.domain.errors import UsageError
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.resources import schemas_dir
from tidemill.storage.retention.chunk_reader import DatabaseChunks
from tidemill.transport.avro.archival import ArchivalCodec
from tidemill.transport.kafka.catalog.topics import Topics
from tidemill.transport.kafka.retention.archival import KafkaConfirmations, KafkaRequests
from tidemill_devkit.archiver_conformance.run import ConformanceReport, Invitation, run_conformance
from tidemill_devkit.stack import Stack

CASES = ["plain", "again", "several", "empty", "late", "changed", "gone", "unknown", "noise"]


@pytest.fixture
def prefix(unique_name: Callable[[str], str]) -> str:
    """Where archivers are tried."""
    return unique_name("conforming").rstrip(".")


@pytest.fixture
def installation(stack: Stack, database: str, topic_prefix: str, tmp_path: Path) -> Installation:
    made = installation_on(stack, database, topic_prefix, tmp_path)
    lake = {"TIDEMILL_LAKE_ROOT": str(tmp_path / "lake")}
    return Installation({**made.environment, **lake}, tmp_path)


def scratch_url(installation: Installation, prefix: str) -> str:
    return f"{installation.database.rpartition('/')[0]}/{scratch_name(prefix)}"


def scratch_name(prefix: str) -> str:
    return prefix.replace("-", "_").replace(".", "_")


def databases(installation: Installation, prefix: str) -> list[Any]:
    return fetch(installation.database, "select 1 from pg_database where datname = $1", scratch_name(prefix))


async def topics_left(installation: Installation, prefix: str) -> list[str]:
    named = list(archival_topics(prefix=prefix).named().values())
    found = await Topics(kafka_connection(installation.settings())).describe(named)
    return [name for name, state in found.items() if state is not None]


async def tried(
    installation: Installation, prefix: str, on_ready: Callable[[Invitation], None], within_s: float
) -> ConformanceReport:
    return await run_conformance(
        Deployment.of(installation.settings()),
        prefix=prefix,
        within_s=within_s,
        on_ready=on_ready,
        on_result=lambda _: None,
    )


# --- the reference archiver ---


def test_the_reference_archiver_conforms(installation: Installation, prefix: str) -> None:
    listening = {
        "TIDEMILL_TOPICS_PREFIX": prefix,
        "TIDEMILL_DATABASE_ARCHIVER_URL": scratch_url(installation, prefix),
    }
    asked = ("retention", "conformance", "--prefix", prefix, "--timeout", "120", "--json")
    with installation.calling(*asked) as call:
        eventually_blocking(lambda: f"TIDEMILL_TOPICS_PREFIX={prefix}" in call.err, what="the invitation")
        with installation.starting("archiver", **listening):
            assert call.process.wait(HANGING_S) == 0, call.err
    found = json.loads(call.out)
    assert [(each["case"], each["result"], each["why"]) for each in found["cases"]] == [
        (case, "passed", None) for case in CASES
    ]
    assert found["conforms"] is True
    assert found["archiver"].startswith("archiver-")
    assert all(each["notes"] == [] for each in found["cases"])
    assert not databases(installation, prefix)
    assert asyncio.run(topics_left(installation, prefix)) == []
    assert list((installation.folder / "lake").rglob("*.parquet"))  # copies are the archiver's


# --- one that lies ---


class Retelling(KafkaConfirmations):
    """Says something else than the reference archiver would."""

    retold: Callable[[ArchivalConfirmation], ArchivalConfirmation]

    async def send(self, confirmation: ArchivalConfirmation) -> None:
        await super().send(self.retold(confirmation))


def lie(honest: ArchivalConfirmation) -> ArchivalConfirmation:
    """Return what the liar says: of an honest answer, what to say in its place."""
    if honest.error_code == "READ_REFUSED":
        told: dict[str, Any] = {"status": ArchivalStatus.COMPLETED, "chunks": (), "lakehouse_path": "/x"}
        return honest.model_copy(update=told)
    if honest.status is not ArchivalStatus.COMPLETED:
        return honest
    if len(honest.chunks) == 3:
        return honest.model_copy(update={"chunks": honest.chunks[:2]})
    (chunk,) = honest.chunks
    if chunk.row_count == 0:
        told = {"status": ArchivalStatus.FAILED, "error_message": "nothing to copy"}
        return honest.model_copy(update={"chunks": (chunk.model_copy(update=told),)})
    if honest.attempt == 2:
        return honest.model_copy(update={"chunks": (twice(chunk),)})
    if chunk.generation == 2:
        return honest.model_copy(update={"chunks": (without_a_row(chunk),)})
    return honest


def twice(chunk: ArchivalResult) -> ArchivalResult:
    """Leave a second copy, and tell of that."""
    path = Path(chunk.files[0].path)
    other = path.with_name(f"second-{path.name}")
    shutil.copy(path, other)
    return naming(chunk, other)


def without_a_row(chunk: ArchivalResult) -> ArchivalResult:
    """Count and digest are told as they should be."""
    path = Path(chunk.files[0].path)
    table = pq.ParquetFile(path).read()
    pq.write_table(table.slice(1), path)
    return naming(chunk, path)


def naming(chunk: ArchivalResult, path: Path) -> ArchivalResult:
    data = path.read_bytes()
    file = ArchivalFile(
        path=str(path),
        size_bytes=len(data),
        row_count=pq.ParquetFile(path).metadata.num_rows,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return chunk.model_copy(update={"files": (file,)})


def briefly(told: ArchivalConfirmation) -> ArchivalConfirmation:
    """Say no more than the specification asks for: each event's files are in a folder of their own."""
    brief = ArchivalConfirmation(event_id=told.event_id, status=told.status, completed_at=told.completed_at)
    files = [file for chunk in told.chunks for file in chunk.files]
    if told.status is not ArchivalStatus.COMPLETED or not files:
        return brief
    folder = Path(told.lakehouse_path or "").parent / f"brief-{told.event_id}"
    folder.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(file.path, folder)
    return brief.model_copy(update={"lakehouse_path": str(folder)})


async def keep_retelling(
    installation: Installation,
    prefix: str,
    retold: Callable[[ArchivalConfirmation], ArchivalConfirmation],
) -> None:
    settings, clock = installation.settings(), SystemClock()
    topics, kafka = archival_topics(prefix=prefix), kafka_connection(settings)
    async with AsyncExitStack() as shared:
        messages, registry = load_messages(schemas_dir(), "archival"), open_registry(shared, settings)
        codec = await ArchivalCodec.open(topics, messages, clock=clock, registry=registry)
        scratch = settings.database.model_copy(update={"archiver_url": None})
        url = libpq_url(scratch, "archiver").rpartition("/")[0] + f"/{scratch_name(prefix)}"
        confirmations = Retelling(kafka, codec, topic=topics.commands)
        confirmations.retold = retold
        archiver = Archiver(
            KafkaRequests(kafka, codec, topic=topics.events, group=prefix),
            confirmations,
            Copier(DatabaseChunks(url, application_name="archiver"), await open_lake(settings)),
            clock,
            archiver_id="retelling",
        )
        await archiver.start()
        try:
            await archiver.run()
        finally:
            await archiver.stop()


async def tried_with(
    installation: Installation,
    prefix: str,
    retold: Callable[[ArchivalConfirmation], ArchivalConfirmation],
) -> ConformanceReport:
    """Try the reference archiver, whose answers are retold."""
    running: list[asyncio.Task[None]] = []

    def on_ready(_: Invitation) -> None:
        running.append(asyncio.create_task(keep_retelling(installation, prefix, retold)))

    try:
        return await tried(installation, prefix, on_ready, 120)
    finally:
        running[0].cancel()
        with suppress(asyncio.CancelledError):
            await running[0]


async def test_five_fields_are_enough(installation: Installation, prefix: str) -> None:
    report = await tried_with(installation, prefix, briefly)
    assert [(each.case, each.result, each.why) for each in report.case_results] == [
        (case, "passed", None) for case in CASES
    ]
    assert report.archiver is None
    notes = {each.case: each.notes for each in report.case_results if each.notes}
    assert notes.keys() == {"again", "changed"}
    assert "superseded copy still exists" in notes["changed"][0]


async def test_an_archiver_that_lies_fails_where_it_lies(installation: Installation, prefix: str) -> None:
    report = await tried_with(installation, prefix, lie)
    found = {each.case: (each.result, each.why or "") for each in report.case_results}
    assert report.archiver == "retelling"
    assert not report.conforms
    assert {case: result for case, (result, _) in found.items()} == {
        **dict.fromkeys(CASES, "passed"),
        **dict.fromkeys(["again", "several", "empty", "late", "gone"], "failed"),
        "changed": "not tried",
    }
    assert "two copies" in found["again"][1]
    assert "is not in the answer" in found["several"][1]
    assert "nothing to copy" in found["empty"][1]
    assert "the copy is not the rows" in found["late"][1]
    assert "does not exist" in found["gone"][1]
    assert "case several" in found["changed"][1]


# --- nobody, and places that are taken ---


def test_where_nobody_answers_the_first_case_says_so(installation: Installation, prefix: str) -> None:
    said = installation("retention", "conformance", "--prefix", prefix, "--timeout", "1", expect=1)
    assert "no answer within 1 s" in said.out
    assert said.out.count("nobody answers") == len(CASES) - 1
    assert "0 of 9 cases passed" in said.out
    assert not databases(installation, prefix)


def test_what_is_not_from_here_is_left_alone(installation: Installation, prefix: str) -> None:
    name = scratch_name(prefix)
    execute(installation.database, f"create database {name}")
    try:
        said = installation("retention", "conformance", "--prefix", prefix, expect=2)
        assert f"database {name} exists, and was not made by this verb" in said.err
        assert databases(installation, prefix)
    finally:
        execute(installation.database, f"drop database {name}")
    said = installation("retention", "conformance", "--prefix", installation.prefix, expect=2)
    assert "this deployment's own" in said.err
    assert "--prefix" in installation("retention", "conformance", "--prefix", "no good", expect=2).err


async def test_what_a_killed_run_left_is_taken_away(installation: Installation, prefix: str) -> None:
    class Killed(Exception):
        """The block was left in a way of its own."""

    def on_ready(_: Invitation) -> None:
        raise Killed

    with pytest.raises(Killed):
        await tried(installation, prefix, on_ready, 1)
    assert not databases(installation, prefix)
    name = scratch_name(prefix)
    comment = "tidemill retention conformance: made to try an archiver, may be dropped"
    execute(installation.database, f"create database {name}")
    execute(installation.database, f"comment on database {name} is '{comment}'")
    assert (await tried(installation, prefix, lambda _: None, 0.1)).case_results[0].result == "failed"
    assert not databases(installation, prefix)


async def test_topics_that_somebody_has_are_left_alone(installation: Installation, prefix: str) -> None:
    settings = installation.settings().model_copy(
        update={"topics": installation.settings().topics.model_copy(update={"prefix": prefix})}
    )
    from tidemill_devkit.archiver_conformance.place import _open_topics  # the verb's own way to make them

    topics = archival_topics(prefix=prefix)
    async with AsyncExitStack() as shared:
        await _open_topics(shared, settings, topics)
    try:
        with pytest.raises(UsageError, match=r"^topics .* exist, and were not made by this verb"):
            await tried(installation, prefix, lambda _: None, 1)
        assert len(await topics_left(installation, prefix)) == 4
    finally:
        await Topics(kafka_connection(settings)).delete(list(topics.named().values()))
