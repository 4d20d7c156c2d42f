"""The same classes in a plug-in give the same commands, events, schemas, tables, codes, read side, SQL and rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.support.engine.any_commands import KEYS, random_commands
from tests.support.engine.built_in import BUILT_IN, FULL, KINDS
from tests.support.engine.commands import Topic
from tests.support.engine.entity_contexts import linked
from tests.support.plug_ins.described import (
    described,
    folder_of,
    migration_of,
    schemas_of,
    statements_of,
    without_places,
)
from tests.support.plug_ins.installed import write_plugin
from tests.support.seeds import chosen_of_each
from tests.unit.commands.test_entity_cuts import PARENTS, run
from tidemill.app.context_loader import load_contexts
from tidemill.catalog.drafts import schema_text
from tidemill.catalog.schemas import load_messages
from tidemill.domain.context import Context
from tidemill.domain.messages import CommandBase
from tidemill.runtime.resources import schemas_dir

CHOSEN = sorted(BUILT_IN) if FULL else sorted(chosen_of_each(*KINDS.values()))
PLACED = """
from dataclasses import replace as _replace
from pathlib import Path as _Path

context = _replace(context, schemas=_Path(__file__).with_name("schemas"))
"""
"""What the author of a plug-in says, and a built-in context does not: where its schemas are."""

PlugIn = Callable[[str], Context]


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlugIn:
    """Installs a built-in context's source as a package of another name, and loads it by its entry point."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str) -> Context:
        package = f"plugged_in_{name}"
        shutil.copytree(folder_of(name), tmp_path / package)
        for path in (tmp_path / package).rglob("*.py"):
            moved = path.read_text("utf-8").replace(f"tidemill.contexts.{name}", package)
            path.write_text(moved, encoding="utf-8")
        source = (tmp_path / package / "__init__.py").read_text("utf-8")
        write_plugin(tmp_path, package, source + PLACED, schema_files(BUILT_IN[name]))
        monkeypatch.setattr("tidemill.contexts.BY_DEFAULT", frozenset())
        (context,) = load_contexts()
        return context

    return install


def schema_files(context: Context) -> dict[str, str]:
    """Return the files that `tidemill schemas new` would write."""
    files = {}
    for full_name, document in schemas_of(context).items():
        model = full_name.rpartition(".")[2]
        kind = "commands" if any(spec.model.__name__ == model for spec in context.commands) else "events"
        files[f"schemas/{context.name}/{kind}/{model}.avsc"] = schema_text(document)
    return files


@pytest.mark.parametrize("name", CHOSEN)
def test_the_same_classes_in_a_plug_in_declare_the_same(plug_in: PlugIn, name: str) -> None:
    built_in, plugged_in = BUILT_IN[name], plug_in(name)
    assert plugged_in.commands[0].model is not built_in.commands[0].model
    assert without_places(described(plugged_in)) == without_places(described(built_in))
    assert schemas_of(plugged_in) == schemas_of(built_in)
    assert migration_of(plugged_in) == migration_of(built_in)
    assert statements_of(plugged_in) == statements_of(built_in)
    assert plugged_in.schemas is not None
    released = load_messages(schemas_dir(), name)
    written = load_messages(plugged_in.schemas, name)
    assert {key: message.current.fingerprint for key, message in written.items()} == {
        key: message.current.fingerprint for key, message in released.items()
    }


def retold(command: CommandBase, context: Context) -> CommandBase:
    """Return a command as a context's own class of the same name has it."""
    (model,) = (spec.model for spec in context.commands if spec.model.__name__ == type(command).__name__)
    made = model.model_validate(command.model_dump())
    assert isinstance(made, CommandBase)
    return made


@pytest.mark.parametrize("name", CHOSEN)
def test_the_same_commands_have_the_same_rows_events_and_outcomes(
    plug_in: PlugIn, name: str, seed: int
) -> None:
    built_in, plugged_in = BUILT_IN[name], plug_in(name)
    sent = list(islice(random_commands(built_in, Random(f"{seed} {name}"), KEYS), 150))
    found: list[Any] = []
    for context in (built_in, plugged_in):
        others = [BUILT_IN["users"]] if built_in.aggregate in PARENTS else []
        stream = linked(context, *others)[0]
        topic = Topic(stream)
        records = [topic.record(retold(command, context)) for command in sent]
        found.append(run(stream, [records[:70], records[70:]]))
    assert found[0] == found[1]


def test_a_difference_is_seen(plug_in: PlugIn) -> None:
    """So that the comparison above is one."""
    declared = without_places(described(BUILT_IN["client_configs"]))
    assert declared != without_places(described(BUILT_IN["service_proposals"]))
    assert {"aggregate", "commands", "state", "codes", "http"} <= declared.keys()
    assert "CreateClientConfig" in str(declared)
    assert "create table" in str(migration_of(BUILT_IN["client_configs"])).lower()
    assert len(statements_of(BUILT_IN["client_configs"])) > 10
