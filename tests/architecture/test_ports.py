"""Every port has a conformance suite, which runs on a fake and on an adapter alike, or a reason why not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

FAKES = sorted((ROOT / "tests" / "fakes").glob("*.py"))
SUPPORT = sorted((ROOT / "tests" / "support").rglob("*.py"))
SUITES = sorted((ROOT / "tests" / "conformance").rglob("test_*.py"))
_ON_THE_DATABASE = (
    "no fake: what decides is pure and tried in tests/unit/retention, and what these do is transactions and locks of "
    "TimescaleDB: tests/integration/retention"
)
_READS = (
    "no fake: a port of questions, whose answers are rows as they are; what is made of them is pure and tried in "
    "tests/unit/admin, and the adapter answers on the real server in "
)
_BY_HAND = (
    "no fake: what is made of records is pure and tried in tests/unit/admin, with stand-ins; the adapter "
    "is a client of Kafka or a codec, tried by its verb on real servers: tests/integration/cli/test_speak_and_ask.py"
)
_OF_THE_LANES_VERBS = (
    "no fake: what an operator may decide is pure and tried in tests/unit/admin; what these do is transactions of "
    "TimescaleDB and topics of Kafka: tests/integration/storage/test_lanes.py and tests/integration/cli/test_halts.py"
)
_AS_BYTES = "no fake: it writes bytes and is pure, so the relay is tried with it: test_records.py"
WITHOUT_SUITE = {
    "admin.archive.ArchiveInspector": _ON_THE_DATABASE,
    "admin.archive.ArchivedCopies": "no fake: a copy proves nothing unless its bytes are read: test_restore.py",
    "admin.archive.RestoreStore": _ON_THE_DATABASE,
    "admin.archive.RestoreWork": _ON_THE_DATABASE,
    "admin.AuditReader": _READS + "tests/acceptance/test_conservation.py",
    "admin.records.CommandEncoder": _BY_HAND,
    "admin.records.CommandEncoders": _BY_HAND,
    "admin.CommandLog": _READS + "tests/integration/cli/test_speak_and_ask.py",
    "admin.DeadLetterReader": _READS + "tests/integration/cli/test_speak_and_ask.py",
    "admin.EditionReader": _READS + "tests/integration/storage/test_community_features.py",
    "admin.HoldingsReader": _READS + "tests/integration/retention/test_holdings.py",
    "admin.LaneReader": _READS + "tests/integration/storage/test_lanes.py",
    "admin.setup.AppliedMigrations": "no fake: as admin.setup.Migrations, of which it is a part",
    "admin.setup.LaneCreation": "no fake: one transaction, and one question: tests/integration/storage/test_lanes.py",
    "admin.lanes.LaneStore": _OF_THE_LANES_VERBS,
    "admin.lanes.LaneTopics": _OF_THE_LANES_VERBS,
    "admin.setup.Migrations": "no fake: it is Alembic on a real database: tests/integration/storage/test_migrations.py",
    "admin.lanes.OutboxHistory": _OF_THE_LANES_VERBS,
    "admin.setup.StructureReader": "one side is a real catalogue: tests/integration/storage/test_drafted_tables.py",
    "admin.service.MigrationHistory": "one question to a server: tests/integration/storage/test_migrations.py",
    "admin.ProcessReader": _READS + "tests/integration/storage/test_processes_told.py",
    "admin.ProcessRegister": "no fake: two statements: tests/integration/service/test_footprint.py",
    "admin.ReadModelStates": _READS + "tests/integration/projections",
    "admin.records.RecordDecoder": _BY_HAND,
    "admin.records.RecordDecoders": _BY_HAND,
    "admin.records.RecordReader": _BY_HAND,
    "admin.records.RecordSender": _BY_HAND,
    "admin.records.RecordSenders": _BY_HAND,
    "admin.lanes.TopicHistory": _OF_THE_LANES_VERBS,
    "admin.TopicInspector": _READS + "tests/integration/transport/kafka/test_history.py",
    "admin.records.TopicReaders": _BY_HAND,
    "admin.records.TopicRecord": "a record as Kafka's client gives it: what is made of it is tried in tests/unit/admin",
    "archiver.Batch": "what a `ChunkReader` yields: test_chunk_reader.py asks for its size",
    "archiver.WrittenCopy": "what a `Lake` returns: test_archiver_lake.py looks at its columns, measures and files",
    "catalog.DeclaredTables": "both sides are in the words of the server: tests/integration/storage/test_structure.py",
    "catalog.PendingMigrations": "one question to a server: tests/integration/storage/test_migrations.py",
    "catalog.TopicStore": "no fake: what differs is pure; the rest: tests/integration/transport/kafka/test_topics.py",
    "commands.Assignee": "our own side of a `CommandSource`: no adapter has one, its suite makes the calls",
    "outbox.EncodedRecord": _AS_BYTES,
    "outbox.LaneRecords": _AS_BYTES,
    "outbox.PackFormat": _AS_BYTES,
    "outbox.RecordFormat": _AS_BYTES,
    "queries.ArchivedSpanReader": _READS + "tests/integration/queries/test_archived.py",
    "queries.DeclaredQueryStore": "no fake: what it does is to plan SQL: tests/integration/queries/test_declared.py",
    "retention.ArchiveStore": _ON_THE_DATABASE,
    "retention.ArchiveWork": _ON_THE_DATABASE,
    "retention.CopyReader": "no fake: a copy proves nothing unless its bytes are read: tests/integration/lakehouse",
}
"""Ports that nobody fakes, and why that is right. A port that gets a fake needs a suite, and no line here."""

NAMED = re.compile(r"`(\w+)`")


def classes(path: Path) -> Iterator[ast.ClassDef]:
    yield from (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef))


def methods(of: ast.ClassDef) -> frozenset[str]:
    functions = (node for node in of.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(
        node.name for node in functions if not node.name.startswith("_") and not is_property(node)
    )


def is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A fake may have an attribute instead."""
    return any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)


def is_protocol(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)


def ports() -> dict[str, frozenset[str]]:
    """`package.Port` -> its methods."""
    package = ROOT / "src" / "tidemill"
    found = sorted(package.rglob("ports.py"))
    return {
        f"{'.'.join(path.parent.relative_to(package).parts)}.{node.name}": methods(node)
        for path in found
        for node in classes(path)
        if is_protocol(node)
    }


def serve(files: Iterable[Path]) -> dict[str, set[str]]:
    """`package.Port` -> the classes of these files that have all of its methods."""
    found = {node.name: methods(node) for path in files for node in classes(path)}
    able = {
        port: {name for name, has in found.items() if wanted <= has}
        for port, wanted in ports().items()
        if wanted
    }
    return {port: names for port, names in able.items() if names}


def faked() -> dict[str, set[str]]:
    """`package.Port` -> its fakes."""
    return serve(FAKES)


def suites_of(port: str) -> list[Path]:
    """The suites that know the port's module and name the port in their docstring."""
    package, _, name = port.rpartition(".")
    texts = {path: path.read_text() for path in SUITES}
    return [
        path
        for path, text in texts.items()
        if f"tidemill.{package}.ports" in text
        and name in NAMED.findall(ast.get_docstring(ast.parse(text)) or "")
    ]


def sides(suite: Path) -> set[str]:
    """What the fixtures of a suite, or of its folder, run it on."""
    texts = [path.read_text() for path in (suite, suite.with_name("conftest.py")) if path.exists()]
    lists = re.findall(r"@pytest\.fixture\(params=\[([^\]]+)\]", "\n".join(texts))
    return {side for each in lists for side in re.findall(r'"(\w+)"', each)}


def test_there_are_ports_and_fakes_to_look_at() -> None:
    assert {
        "commands.CommandCodec",
        "commands.UnitOfWork",
        "outbox.Publishers",
        "projections.RebuildTarget",
    } <= faked().keys()


def test_a_fake_is_where_it_is_looked_for() -> None:
    """Of ports with several methods: one method alone may have a port's name by chance."""
    elsewhere = {port: names for port, names in serve(SUPPORT).items() if len(ports()[port]) > 1}
    assert not elsewhere, "these belong to tests/fakes, with a suite in tests/conformance"


@pytest.mark.parametrize("port", sorted(ports().keys() - faked().keys()))
def test_a_port_without_a_fake_says_why(port: str) -> None:
    assert WITHOUT_SUITE.get(port), (
        f"{port} has no fake in tests/fakes: add one, with a suite in tests/conformance, or say why not above"
    )


def test_no_reason_is_given_for_nothing() -> None:
    assert WITHOUT_SUITE.keys() == ports().keys() - faked().keys()


@pytest.mark.parametrize("port", sorted(faked()))
def test_a_port_with_a_fake_has_a_suite_that_runs_on_both(port: str) -> None:
    found = suites_of(port)
    assert found, (
        f"{port} has a fake ({', '.join(sorted(faked()[port]))}): no suite in tests/conformance names it"
    )
    for suite in found:
        assert "memory" in sides(suite), f"{suite.name} does not run on a fake"
        assert sides(suite) - {"memory"}, f"{suite.name} runs on nothing but a fake"
