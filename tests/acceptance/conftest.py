"""Deployments that failures are made to happen to; everything that a journey starts ends with it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.clients.journeys import SESSION_S, Deployment
from tests.support.clients.walkthrough import Shell
from tests.support.servers.databases import database_of, drop, execute
from tests.support.servers.installation import Installation, installation_on
from tests.support.servers.nursery import NURSERY
from tests.support.servers.stack import Run
from tests.support.waiting import HANGING_S
from tidemill_devkit.stack import Stack

PIP = "#!{python}\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"


@pytest.fixture
def partitions() -> int:
    """How many lanes each aggregate has; a journey that needs others says so by parametrising it."""
    return 2


def plain_installation(
    stack: Stack, database: str, prefix: str, partitions: int, folder: Path
) -> Installation:
    """Return an installation without a registry, whose dead processes are soon missed."""
    made = installation_on(stack, database, prefix, folder, partitions).environment
    own = {"TIDEMILL_KAFKA_SESSION_S": str(SESSION_S), "TIDEMILL_REGISTRY_URL": ""}
    return Installation({**made, **own}, folder)


def make_deployment(
    stack: Stack, database: str, prefix: str, partitions: int, folder: Path, exit_stack: ExitStack
) -> Deployment:
    """Return a deployment without a registry, whose topics and lanes exist; nothing serves yet."""
    installation = plain_installation(stack, database, prefix, partitions, folder)
    deployment = Deployment(installation, partitions, exit_stack)
    deployment("topics", "create")
    return deployment


@pytest.fixture
def exit_stack() -> Iterator[ExitStack]:
    """Ends what a test has started, last first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def deployment(
    stack: Stack, database: str, topic_prefix: str, partitions: int, tmp_path: Path, exit_stack: ExitStack
) -> Deployment:
    """A deployment on the servers that all tests share."""
    return make_deployment(stack, database, topic_prefix, partitions, tmp_path, exit_stack)


@pytest.fixture
def breakable_deployment(
    breakable_stack: Stack,
    breakable_database: str,
    unique_name: Callable[[str], str],
    partitions: int,
    tmp_path: Path,
    exit_stack: ExitStack,
) -> Deployment:
    """A deployment on servers that may be broken."""
    return make_deployment(
        breakable_stack, breakable_database, unique_name("broken"), partitions, tmp_path, exit_stack
    )


# --- a reader with an environment of his own -------------------------------------------------------------------------


@pytest.fixture
def empty_database(run: Run, stack: Stack, unique_name: Callable[[str], str]) -> Iterator[str]:
    """A database that nobody has migrated yet."""
    name = f"t{run.uid}_{unique_name('tutorial').replace('-', '_')}"
    execute(stack.database_url, f'CREATE DATABASE "{name}"')
    yield database_of(stack.database_url, name)
    drop(stack.database_url, name)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The programs of an environment of the reader's own: it has what ours has, and what he installs.

    A page has him type ours dozens of times, hence it begins with its imports behind it.
    """
    environment = tmp_path / "environment"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=HANGING_S
    )
    python = environment / "bin" / "python"
    own = environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (own / "ours.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    texts = {
        "pip": PIP.format(python=python),
        "tidemill": NURSERY.forked_program("tidemill.__main__", environment),
    }
    for name, text in texts.items():
        (environment / "bin" / name).write_text(text)
        (environment / "bin" / name).chmod(0o755)
    return environment / "bin"


@pytest.fixture
def prefix(unique_name: Callable[[str], str]) -> str:
    """What stands for `tidemill` in the names of the reader's topics."""
    return unique_name("tutorial")


@pytest.fixture
def shell(stack: Stack, empty_database: str, programs: Path, prefix: str, tmp_path: Path) -> Iterator[Shell]:
    """The reader's terminal. The servers that the page has started are given, so that `dev up` finds them."""
    reader = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    reader |= {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "TIDEMILL_CACHE": str(tmp_path / "cache"),
        "TIDEMILL_DATABASE_URL": empty_database,
        "TIDEMILL_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "TIDEMILL_REGISTRY_URL": stack.registry_url or "",
        "TIDEMILL_TOPICS_PREFIX": prefix,
    }
    folder = tmp_path / "reader"
    folder.mkdir()
    with Shell(folder, reader) as shell:
        yield shell
