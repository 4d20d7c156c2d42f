"""What a plug-in of the version before imports works for one version more, and says what to import instead."""

from pathlib import Path
from typing import Any

import pytest

from tidemill import api, migration
from tidemill.storage.migrations.revisions import alembic_config, needed_heads

MOVED = [
    ("tidemill.tables", "fact_table", api),
    ("tidemill.tables", "row_table", api),
    ("tidemill.storage.revisions", "run_script", migration),
    ("tidemill.domain.retention", "LateRule", api),
    ("tidemill.domain.retention", "QuietHours", api),
    ("tidemill.domain.retention", "Retention", api),
    ("tidemill.domain.retention", "RetentionPolicy", api),
]
STILL_THERE = {
    "tidemill.domain.context": ("Context", "State", "Unique", "append", "decide"),
    "tidemill.domain.decision": ("Decision", "Rejected", "accepted", "rejected"),
    "tidemill.domain.errors": ("ContractError",),
    "tidemill.domain.messages": ("CommandBase", "EventBase", "Label", "ReadModelBase"),
    "tidemill.domain.projection": ("Projection", "Recorded"),
}
"""What the tutorial and the built-in contexts of the version before imported, and a plug-in may import as they did."""


def run_plug_in(statement: str, folder: Path) -> dict[str, Any]:
    """Run a plug-in's module that consists of an import; return its names."""
    path = folder / "plug_in.py"
    found: dict[str, Any] = {"__name__": "plug_in", "__file__": str(path)}
    exec(compile(f"\n{statement}\n", str(path), "exec"), found)
    return found


@pytest.mark.parametrize(("old", "name", "new"), MOVED, ids=lambda value: getattr(value, "__name__", value))
def test_an_old_path_gives_the_same_object_and_a_warning_at_the_importer(
    old: str, name: str, new: Any, tmp_path: Path
) -> None:
    with pytest.warns(DeprecationWarning, match=rf"use `from {new.__name__} import {name}`") as warned:
        found = run_plug_in(f"from {old} import {name}", tmp_path)
    assert found[name] is getattr(new, name)
    assert name in new.__all__
    assert [(warning.filename, warning.lineno) for warning in warned] == [(str(tmp_path / "plug_in.py"), 2)]


def test_an_attribute_of_an_old_module_warns_too(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="tidemill.api"):
        found = run_plug_in("import tidemill.tables\ntable = tidemill.tables.fact_table", tmp_path)
    assert found["table"] is api.fact_table


def test_an_old_module_has_no_other_names(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match="cannot import name 'anything'"):
        run_plug_in("from tidemill.tables import anything", tmp_path)


@pytest.mark.parametrize("path", STILL_THERE)
def test_the_paths_of_the_domain_give_the_same_objects(path: str, tmp_path: Path) -> None:
    names = STILL_THERE[path]
    found = run_plug_in(f"from {path} import {', '.join(names)}", tmp_path)
    assert [found[name] for name in names] == [getattr(api, name) for name in names]


# --- a whole plug-in of the version before ----------------------------------------------------------------------------

TUTORIAL = """
from tidemill.domain.context import Context, append
from tidemill.domain.messages import CommandBase, EventBase, Label, ReadModelBase
from tidemill.domain.projection import Projection, Recorded
from tidemill.domain.retention import Retention
from tidemill.tables import fact_table, row_table
"""
"""The imports of the tutorial's context, as version 0.2.0 had them, and of one with a retention."""

DECLARED = """
from datetime import datetime, timedelta

class RecordDepth(CommandBase):
    gauge: Label
    time: datetime

class DepthRecorded(EventBase):
    gauge: Label
    time: datetime

depths = fact_table("depth", RecordDepth)
context = Context(
    aggregate="depths",
    key=lambda command: command.gauge,
    commands=(append(RecordDepth, into=depths, event=DepthRecorded),),
    retention=Retention(table=depths, after=timedelta(days=1)),
)
"""
REVISION = '''
"""Depths."""
from {module} import run_script

revision, down_revision, branch_labels, depends_on = "depths_0001", None, ("depths",), "core_0001"

def upgrade():
    run_script("select 1")
'''


def test_a_plug_in_of_the_version_before_is_loaded(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="tidemill.api") as warned:
        found = run_plug_in(TUTORIAL + DECLARED, tmp_path)
    assert isinstance(found["context"], api.Context)
    said = {str(warning.message).partition(" is removed")[0] for warning in warned}
    assert said == {"tidemill.tables", "tidemill.domain.retention"}


def test_its_revisions_are_read(tmp_path: Path) -> None:
    (tmp_path / "0001_depths.py").write_text(REVISION.format(module="tidemill.storage.revisions"))
    config = alembic_config({"depths": tmp_path})
    with pytest.warns(DeprecationWarning, match="use `from tidemill.migration import run_script`") as warned:
        assert "depths_0001" in needed_heads(config)
    assert {warning.filename for warning in warned} == {str(tmp_path / "0001_depths.py")}
