"""`app` puts adapters together and neither extends nor reinterprets one; who works on the engine is its client."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from tests.architecture import tree

ADAPTERS = ("tidemill.storage.", "tidemill.transport.", "tidemill.lakehouse.")
APP = Path("src/tidemill/app")
RETENTION = Path("src/tidemill/retention")
OF_THE_ENGINE = {
    "tidemill.commands.decide_fold": "the type of a handler's results",
    "tidemill.commands.ports": "ports",
    "tidemill.commands.validation": "the type of what a handler is given",
}
"""What retention, a client of the engine, imports of it; its adapter writes internal commands as well."""


def below(folder: Path) -> list[Path]:
    return [path for path in tree.python_files("src") if path.is_relative_to(folder)]


def extended(paths: Iterable[Path]) -> list[str]:
    return [
        f"{path}: {name} extends {base}"
        for path in paths
        for name, base in tree.bases(path)
        if base.startswith(ADAPTERS)
    ]


def reinterpreted(paths: Iterable[Path]) -> list[str]:
    return [
        f"{path}:{line}" for path in paths for name, line in tree.dotted_names(path) if name == "typing.cast"
    ]


def imported_of_the_engine(paths: Iterable[Path]) -> set[str]:
    nodes = (node for path in paths for node in ast.walk(tree.syntax(path)))
    names = (node.module or "" for node in nodes if isinstance(node, ast.ImportFrom))
    return {name for name in names if name.startswith("tidemill.commands")}


def test_app_extends_no_adapter_and_casts_nothing() -> None:
    assert extended(below(APP)) + reinterpreted(below(APP)) == []


def test_retention_is_a_client_of_the_engine() -> None:
    assert imported_of_the_engine(below(RETENTION)) == OF_THE_ENGINE.keys()


def test_a_planted_fault_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text(
        "import typing as t\n"
        "from tidemill.commands.batch import BatchWriter\n"
        "from tidemill.storage.retention import archive\n"
        "from tidemill.storage.retention.archive import SliceRows as Rows\n"
        "class Work(Rows): ...\n"
        "class Store(archive.ArchiveDatabase): ...\n"
        "t.cast('BatchTransaction', Work)\n"
    )
    assert extended([path]) == [
        f"{path}: Work extends tidemill.storage.retention.archive.SliceRows",
        f"{path}: Store extends tidemill.storage.retention.archive.ArchiveDatabase",
    ]
    assert reinterpreted([path]) == [f"{path}:7"]
    assert imported_of_the_engine([path]) == {"tidemill.commands.batch"}
