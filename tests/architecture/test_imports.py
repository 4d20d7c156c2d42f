"""The import contract can fail, and is as tight as it can be. That it holds is `make imports`' to say."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

PACKAGE = ROOT / "src" / "tidemill"
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = next(contract for contract in CONFIG["contracts"] if contract["id"] == "layers")["layers"]
ADAPTERS = {"storage", "transport", "lakehouse", "devstack"}  # devstack asks the servers whether they are up


def broken_contracts(source: Path) -> set[str]:
    """The names of the contracts that the tree at `source`/tidemill breaks."""
    command = [
        str(Path(sys.executable).parent / "lint-imports"),
        "--no-cache",
        "--config",
        str(ROOT / "pyproject.toml"),
    ]
    run = subprocess.run(
        command,
        cwd=source,
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    verdicts = [
        line.rsplit(" ", 1) for line in run.stdout.splitlines() if line.endswith((" KEPT", " BROKEN"))
    ]
    assert len(verdicts) == len(CONFIG["contracts"]), run.stdout + run.stderr
    return {name for name, verdict in verdicts if verdict == "BROKEN"}


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("commands/planted.py", "import tidemill.storage", "Imports point down this list"),
        ("commands/planted.py", "import tidemill.outbox", "Imports point down this list"),
        ("projections/planted.py", "import tidemill.commands", "Imports point down this list"),
        ("storage/planted.py", "import tidemill.transport", "Imports point down this list"),
        ("domain/planted.py", "import tidemill.clock", "Imports point down this list"),
        ("planted/__init__.py", "", "Imports point down this list"),
        (
            "domain/planted.py",
            "import asyncpg",
            "Workflows, contexts and the vocabulary reach no driver, by any way",
        ),
        (
            "commands/planted.py",
            "import sqlalchemy",
            "Workflows, contexts and the vocabulary reach no driver, by any way",
        ),
        (
            "contexts/planted/__init__.py",
            "import asyncpg",
            "A context may declare tables, and nothing that connects",
        ),
        (
            "commands/planted.py",
            "import pyarrow",
            "Workflows, contexts and the vocabulary reach no driver, by any way",
        ),
        (
            "transport/planted.py",
            "import pyarrow",
            "Arrow and its drivers are for the archive: no other process loads them",
        ),
        (
            "storage/planted.py",
            "import fsspec",
            "The database's adapter knows Arrow, but nothing of the lake",
        ),
        (
            "lakehouse/planted.py",
            "import asyncpg",
            "The lake knows no broker, and the database only as Iceberg's catalog",
        ),
        ("cli/planted.py", "import tidemill.lakehouse", "Only app names a concrete adapter or a context"),
        ("cli/planted.py", "import aiokafka", "The outside speaks to servers through adapters"),
        ("cli/planted.py", "import tidemill.storage", "Only app names a concrete adapter or a context"),
        ("devstack/planted.py", "import tidemill.contexts", "Only app names a concrete adapter or a context"),
        (
            "contexts/planted/__init__.py",
            "import tidemill.contexts.market_data",
            "Contexts do not know each other",
        ),
    ],
)
def test_a_planted_fault_breaks_its_contract(
    module: str, statement: str, contract: str, tmp_path: Path
) -> None:
    shutil.copytree(PACKAGE, tmp_path / "tidemill", ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / "tidemill" / module
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(f'"""Planted."""\n\n{statement}\n')
    assert contract in broken_contracts(tmp_path)


def exists(layer: str) -> bool:
    return (PACKAGE / layer).is_dir() or (PACKAGE / f"{layer}.py").is_file()


def test_only_layers_that_do_not_exist_yet_stand_in_brackets() -> None:
    names = {name for layer in LAYERS for name in layer.split(" | ")}
    bracketed = {name.strip("()") for name in names if name.startswith("(")}
    assert bracketed == {name for name in (name.strip("()") for name in names) if not exists(name)}


def test_every_layer_but_the_adapters_is_kept_from_drivers() -> None:
    layers = {name.strip("()") for layer in LAYERS for name in layer.split(" | ")}
    contracts = (contract for contract in CONFIG["contracts"] if contract["id"].startswith("drivers-"))
    kept = {
        module.removeprefix("tidemill.") for contract in contracts for module in contract["source_modules"]
    }
    assert kept == {layer for layer in layers - ADAPTERS if exists(layer)}
