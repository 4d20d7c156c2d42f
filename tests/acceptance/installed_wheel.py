"""The wheel as people install it: in an empty environment, outside any checkout, in the versions that are pinned.

`make check-wheel` runs this file. It downloads all that the wheel needs, which takes minutes, so that its name is none
that pytest looks for. Tests run in their order: first without any extra, then with those of the demo.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.architecture.test_wheel import build
from tests.support.servers.databases import Databases, fetch
from tests.support.waiting import HANGING_S
from tidemill import __version__
from tidemill.cli.output import USAGE
from tidemill_devkit.stack import Stack

ROOT = Path(__file__).parents[2]
INSTALLING_S = 6 * HANGING_S
"""Against hanging: a slow machine takes a quarter of an hour to fetch everything."""

PIN = re.compile(r"^([\w.-]+)(?:\[[\w.,-]+\])?(==\S+) \\$", re.MULTILINE)


@dataclass(frozen=True)
class Installed:
    """An environment of its own, whose programs know nothing of the checkout. `folder`: where they are called."""

    folder: Path
    wheel: Path
    servers: dict[str, str]

    @property
    def programs(self) -> Path:
        return self.folder / "environment" / "bin"

    def install(self, extras: str = "") -> None:
        """Install the wheel with these extras; pip resolves what it needs within the pins."""
        pins = self.folder / "pins.txt"
        found = PIN.findall((ROOT / "constraints.txt").read_text(encoding="utf-8"))
        pins.write_text("".join(f"{name}{version}\n" for name, version in found), encoding="utf-8")
        wanted = f"{self.wheel}{extras}"
        self._pip("install", "--quiet", "--no-compile", "--constraint", str(pins), wanted)
        self._pip("check")

    def _pip(self, *arguments: str) -> None:
        said = self._run([str(self.programs / "python"), "-m", "pip", *arguments], INSTALLING_S)
        assert said.returncode == 0, said.stdout + said.stderr

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Call the program."""
        return self._run([str(self.programs / "tidemill"), *arguments], INSTALLING_S, **environment)

    def python(self, program: str) -> str:
        said = self._run([str(self.programs / "python"), "-c", program], HANGING_S)
        assert said.returncode == 0, said.stderr
        return said.stdout.strip()

    def _run(
        self, command: Sequence[str], within_s: float, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        ours = ("TIDEMILL_", "PYTHON", "VIRTUAL_ENV", "COV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**kept, **self.servers, **environment},
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the source distribution, as a packager does."""
    folder = tmp_path_factory.mktemp("built")
    with tarfile.open(build("sdist", ROOT, folder / "sdist")) as archive:
        archive.extractall(folder)
    return build("wheel", folder / f"tidemill-{__version__}", folder / "wheel")


@pytest.fixture(scope="module")
def plain(wheel: Path, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel without any extra."""
    folder = tmp_path_factory.mktemp("installed")
    servers = {
        "TIDEMILL_CACHE": str(folder / "cache"),
        "TIDEMILL_DATABASE_URL": stack.database_url,
        "TIDEMILL_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "TIDEMILL_REGISTRY_URL": stack.registry_url or "",
        "COLUMNS": "120",
    }
    subprocess.run([sys.executable, "-m", "venv", str(folder / "environment")], check=True, timeout=HANGING_S)
    installed = Installed(folder, wheel, servers)
    installed.install()
    return installed


@pytest.fixture(scope="module")
def complete(plain: Installed) -> Installed:
    """The same environment with the extras of the demo."""
    plain.install("[archive,demo]")
    return plain


def test_it_comes_from_the_wheel_alone(plain: Installed) -> None:
    place = Path(plain.python("import tidemill; print(tidemill.__file__)"))
    assert place.is_relative_to(plain.folder)
    assert plain("--version").stdout.strip() == __version__


def test_it_explains_itself(plain: Installed) -> None:
    said = plain("--help")
    assert said.returncode == 0, said.stderr
    assert "migrate" in said.stdout
    assert "demo" in said.stdout


@pytest.mark.parametrize(
    ("verb", "extras"),
    [
        ("demo", "archive,demo"),
        ("serve archiver", "archive"),
        ("serve retention", "archive"),
        ("retention scrub", "archive"),
        ("retention conformance", "archive"),
    ],
)
def test_a_verb_says_which_extra_it_needs(plain: Installed, verb: str, extras: str) -> None:
    said = plain(*verb.split())
    assert said.returncode == USAGE, said.stdout + said.stderr
    assert f"pip install 'tidemill[{extras}]'" in said.stderr


def migrated(installed: Installed, database: str) -> set[str]:
    """Migrate a database that is empty, and return the schemas that it has then."""
    said = installed("migrate", TIDEMILL_DATABASE_URL=database)
    assert said.returncode == 0, said.stdout + said.stderr
    return {row["nspname"] for row in fetch(database, "select nspname from pg_namespace")}


def test_it_migrates_without_any_extra(plain: Installed, databases: Databases) -> None:
    with databases.empty() as database:
        assert migrated(plain, database) >= {"tm", "tm_late"}


def test_its_schemas_are_whole(plain: Installed) -> None:
    said = plain("schemas", "check")
    assert said.returncode == 0, said.stdout + said.stderr


def test_it_migrates_with_the_extras(complete: Installed, databases: Databases) -> None:
    with databases.empty() as database:
        assert migrated(complete, database) >= {"tm", "tm_late"}


def test_its_demo_comes_out_as_planned(complete: Installed) -> None:
    said = complete("demo", "--json")
    assert said.returncode == 0, said.stdout + said.stderr
    run = re.search(r"database +tidemill_demo_(\w+)", said.stderr)
    assert run is not None
    removed = complete("demo", "--remove", run[1].replace("_", "-"))
    assert removed.returncode == 0, removed.stderr
