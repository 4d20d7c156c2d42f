"""What a plug-in of the version before imports works for one version more, and says what to import instead."""

from pathlib import Path
from typing import Any

import pytest

from tidemill import api, migration

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
