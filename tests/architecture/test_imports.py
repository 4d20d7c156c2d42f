"""The import contract can fail, and is as tight as it can be. That it holds is `make imports`' to say."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture import tree
from tests.architecture.tree import ROOT
from tests.support.waiting import HANGING_S

PACKAGE = ROOT / "src" / "tidemill"
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = next(contract for contract in CONFIG["contracts"] if contract["id"] == "layers")["layers"]
ADAPTERS = {"storage", "transport", "lakehouse"}
REVISIONS = {"migration"}  # a revision runs on Alembic's connection


FAULTS = [
    ("commands/*.py", "import tidemill.storage", "Imports point down this list"),
    ("commands/*.py", "import tidemill.outbox", "Imports point down this list"),
    ("commands/*.py", "import tidemill.retention", "Imports point down this list"),
    ("archiver/*.py", "import tidemill.retention", "Imports point down this list"),
    (
        "retention/*.py",
        "import tidemill.outbox",
        "Work on streams knows no workflow but the engine, whose client it is",
    ),
    (
        "archiver/*.py",
        "import tidemill.commands",
        "The reference archiver knows messages, as one of somebody else does",
    ),
    ("projections/*.py", "import tidemill.commands", "Imports point down this list"),
    ("storage/*.py", "import tidemill.transport", "Imports point down this list"),
    ("domain/*.py", "import tidemill.runtime.clock", "Imports point down this list"),
    ("*/__init__.py", "", "Imports point down this list"),
    ("admin/*.py", "import tidemill.storage", "Imports point down this list"),
    ("admin/*.py", "import tidemill.settings", "Imports point down this list"),
    ("commands/*.py", "import tidemill.admin", "Imports point down this list"),
    (
        "admin/*.py",
        "import sqlalchemy",
        "Workflows, contexts and the vocabulary reach no driver, by any way",
    ),
    (
        "domain/*.py",
        "import asyncpg",
        "Workflows, contexts and the vocabulary reach no driver, by any way",
    ),
    (
        "commands/*.py",
        "import sqlalchemy",
        "Workflows, contexts and the vocabulary reach no driver, by any way",
    ),
    (
        "contexts/*/__init__.py",
        "import asyncpg",
        "A context may declare tables, and nothing that connects",
    ),
    (
        "commands/*.py",
        "import pyarrow",
        "Workflows, contexts and the vocabulary reach no driver, by any way",
    ),
    (
        "transport/*.py",
        "import pyarrow",
        "Arrow and its drivers are for the archive: no other process loads them",
    ),
    (
        "storage/*.py",
        "import fsspec",
        "The database's adapter knows Arrow, but nothing of the lake",
    ),
    (
        "lakehouse/*.py",
        "import asyncpg",
        "The lake knows no broker, and the database only as Iceberg's catalog",
    ),
    ("cli/*.py", "import tidemill.lakehouse", "Only app names a concrete adapter or a context"),
    ("cli/*.py", "import aiokafka", "The outside speaks to servers through adapters"),
    ("cli/*.py", "import tidemill.storage", "Only app names a concrete adapter or a context"),
    ("commands/*.py", "import tidemill_devkit", "The product does not know its devkit"),
    (
        "contexts/*/__init__.py",
        "import tidemill.contexts.market_data",
        "Contexts do not know each other",
    ),
    (
        "contexts/*/__init__.py",
        "import tidemill.domain.context",
        "A context imports tidemill.api and nothing else of tidemill",
    ),
    ("app/*.py", "import tidemill.tables", "Only plug-ins import by a path of the version before"),
    ("runtime/*.py", "import tidemill.api", "Imports point down this list"),
]
"""Place (the star is a name of the fault's own), statement, and the contract that it breaks."""


def planted(number: int) -> str:
    return f"planted_{number}"


@pytest.fixture(scope="module")
def broken_contracts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each contract that a tree with all of the faults breaks, by its name."""
    source = tmp_path_factory.mktemp("faulty")
    for package in (PACKAGE, PACKAGE.with_name("tidemill_devkit")):
        shutil.copytree(package, source / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for number, (place, statement, _) in enumerate(FAULTS):
        path = source / "tidemill" / place.replace("*", planted(number))
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'"""Planted."""\n\n{statement}\n')
    run = subprocess.run(
        [
            str(Path(sys.executable).parent / "lint-imports"),
            "--no-cache",
            "--config",
            str(ROOT / "pyproject.toml"),
        ],
        cwd=source,
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=HANGING_S,
        check=False,
    )
    verdicts = [line for line in run.stdout.splitlines() if line.endswith((" KEPT", " BROKEN"))]
    assert len(verdicts) == len(CONFIG["contracts"]), run.stdout + run.stderr
    details = re.split(r"^(.+)\n-+\n", run.stdout.partition("Broken contracts")[2], flags=re.MULTILINE)[1:]
    return dict(zip(details[::2], details[1::2], strict=True))


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=lambda number: " ".join(FAULTS[number][:2]))
def test_a_planted_fault_breaks_its_contract(broken_contracts: dict[str, str], number: int) -> None:
    """All are planted at once: each is named as one of those that break its contract."""
    contract = FAULTS[number][2]
    assert re.search(rf"\b{planted(number)}\b", broken_contracts[contract]), broken_contracts[contract]


def test_every_contract_is_shown_to_fail(broken_contracts: dict[str, str]) -> None:
    assert broken_contracts.keys() == {contract["name"] for contract in CONFIG["contracts"]}


def exists(layer: str) -> bool:
    return (PACKAGE / layer).is_dir() or (PACKAGE / f"{layer}.py").is_file()


def test_only_layers_that_do_not_exist_yet_stand_in_brackets() -> None:
    names = {name for layer in LAYERS for name in layer.split(" | ")}
    bracketed = {name.strip("()") for name in names if name.startswith("(")}
    assert bracketed == {name for name in (name.strip("()") for name in names) if not exists(name)}


def test_contexts_are_kept_from_every_layer_but_the_public_surface() -> None:
    (contract,) = (each for each in CONFIG["contracts"] if each["id"] == "contexts-public-surface")
    kept_from = {module.removeprefix("tidemill.") for module in contract["forbidden_modules"]}
    layers = {name.strip("()") for layer in LAYERS for name in layer.split(" | ")}
    assert kept_from == {layer for layer in layers - {"contexts", "api"} if exists(layer)}


def test_every_layer_but_the_adapters_is_kept_from_drivers() -> None:
    layers = {name.strip("()") for layer in LAYERS for name in layer.split(" | ")}
    contracts = (contract for contract in CONFIG["contracts"] if contract["id"].startswith("drivers-"))
    kept = {
        module.removeprefix("tidemill.") for contract in contracts for module in contract["source_modules"]
    }
    assert kept == {layer for layer in layers - ADAPTERS - REVISIONS if exists(layer)}


def test_retries_exist_once() -> None:
    users = {
        path
        for path in tree.python_files("src")
        if any(name.startswith("tenacity.") for name, _ in tree.dotted_names(path))
    }
    assert users == {Path("src/tidemill/runtime/retry.py")}
