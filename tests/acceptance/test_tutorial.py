"""The tutorial, followed to the letter, on real servers: its files, its commands, what they print."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.clients.walkthrough import File, Shell, agrees, steps
from tests.support.servers.databases import database_of, drop, execute
from tests.support.servers.stack import Run
from tests.support.waiting import HANGING_S
from tidemill_devkit.stack import Stack

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
MAX_LINES = 59
PROGRAMS = {"tidemill": "tidemill.__main__", "pip": "pip._internal.cli.main"}
SCRIPT = "#!{python}\nimport sys\nfrom {module} import main\nsys.exit(main())\n"


@pytest.fixture
def empty_database(run: Run, stack: Stack, unique_name: Callable[[str], str]) -> Iterator[str]:
    """A database that nobody has migrated yet."""
    name = f"t{run.uid}_{unique_name('tutorial').replace('-', '_')}"
    execute(stack.database_url, f'CREATE DATABASE "{name}"')
    yield database_of(stack.database_url, name)
    drop(stack.database_url, name)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The programs of an environment of the reader's own: it has what ours has, and what he installs."""
    environment = tmp_path / "environment"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=HANGING_S
    )
    python = environment / "bin" / "python"
    own = environment / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (own / "ours.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    for name, module in PROGRAMS.items():
        (environment / "bin" / name).write_text(SCRIPT.format(python=python, module=module))
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


def test_a_context_is_less_than_sixty_lines_of_python() -> None:
    files = [step for step in steps(PAGE) if isinstance(step, File) and step.path.endswith(".py")]
    counted = [file for file in files if "migrations" not in Path(file.path).parts]
    assert len(counted) == 1
    assert sum(len(file.text.splitlines()) for file in counted) <= MAX_LINES


@pytest.mark.slow
def test_who_follows_the_page_sees_what_it_shows(shell: Shell, prefix: str, programs: Path) -> None:
    failed = ""
    for step in steps(PAGE):
        if isinstance(step, File):
            assert not failed
            path = shell.folder() / step.path
            path.parent.mkdir(exist_ok=True)
            path.write_text(step.text, encoding="utf-8")
            continue
        assert not failed or step.text == "echo $?", failed
        code, printed = shell.type(step.text)
        told = f"$ {step.text}\n{printed.replace(prefix, 'tidemill')}"
        assert agrees(step.printed, printed.replace(prefix, "tidemill")), (
            f"{told}\nbut the page says\n{step.printed}"
        )
        failed = f"exit code {code}\n{told}" if code else ""
    installed = list(programs.parent.rglob("sensor_reading/migrations/*.py"))
    assert len(installed) == 1, "the wheel carries the migration"
