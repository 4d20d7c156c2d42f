"""An upgrade from the version before, as docs/operations.md orders it, under load and in both directions.

`tests/versions` has that version's wheel: its processes work on a database that it has made, which is migrated under
them; then processes of this version take over, give back, and take over again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.conftest import plain_installation
from tests.acceptance.test_hand_over import await_shared
from tests.support.clients.clients import Feed
from tests.support.clients.journeys import Deployment, Worker
from tests.support.plug_ins.versions import WHEELS, unpacked, with_version
from tests.support.servers.databases import Databases
from tests.support.servers.installation import Installation
from tests.support.waiting import HANGING_S
from tidemill_devkit.stack import Stack

BEFORE = WHEELS / "tidemill-0.1.0-py3-none-any.whl"
LANES = 4
MORE = 200

_ORIGIN = """
import json
from importlib.metadata import distribution, entry_points
import tidemill, tidemill.resources as resources
(program,) = entry_points(group="console_scripts", name="tidemill")
print(json.dumps([
    tidemill.__file__, str(program.dist.locate_file("tidemill/__init__.py")), distribution("tidemill").version,
    str(resources.schemas_dir()), str(resources.migrations_dir()),
]))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the version before."""
    return unpacked(BEFORE, tmp_path_factory.mktemp("before"))


@pytest.fixture
def installation(
    stack: Stack, databases: Databases, topic_prefix: str, tmp_path: Path
) -> Iterator[Installation]:
    """Settings of a database in which nothing has happened yet."""
    with databases.empty() as database:
        yield plain_installation(stack, database, topic_prefix, LANES, tmp_path)


def test_the_version_before_comes_from_its_wheel_alone(installation: Installation, packages: Path) -> None:
    before = with_version(installation, packages, installation.folder)
    said = subprocess.check_output(
        [sys.executable, "-c", _ORIGIN], env=before.whole_environment(), text=True, timeout=HANGING_S
    )
    package = packages / "tidemill"
    assert json.loads(said) == [
        *[str(package / "__init__.py")] * 2,
        "0.1.0",
        str(package / "_schemas"),
        str(package / "_migrations"),
    ]


@pytest.mark.slow
def test_a_database_is_migrated_under_processes_of_the_version_before(
    installation: Installation, packages: Path, exit_stack: ExitStack
) -> None:
    new = Deployment(installation, LANES, exit_stack)
    old = replace(new, installation=with_version(installation, packages, installation.folder))
    old("migrate")
    old("topics", "create")
    first = old.start("all")
    feed = Feed(new.client, new.topics.commands, new.next_tick, per_second=200)

    def goes_on(*workers: Worker) -> None:
        """The lanes are shared by these, and more is consumed by them."""
        await_shared(new, *workers)
        new.await_consumed(new.consumed() + MORE)

    with feed.running():
        goes_on(first)
        new("migrate")
        new("topics", "create")
        new("topics", "check")
        goes_on(first)
        second = new.start("all")
        goes_on(first, second)
        assert first.stop() == 0
        goes_on(second)
        third = old.start("all")
        goes_on(second, third)
        assert second.stop() == 0
        goes_on(third)
        fourth = new.start("all")
        goes_on(third, fourth)
        assert third.stop() == 0
        goes_on(fourth)
    new.await_consumed(len(feed.acknowledged))
    new.assert_conserved(feed.acknowledged, projecting=True)
    new.assert_balanced_by_an_outsider()
    for name in ("latest-quotes", "daily-bars"):
        new("projections", "verify", name)
    for worker in (first, second, third, fourth):
        assert not worker.said("service_failed"), "a fault, not only a server that was waited for"
    assert fourth.stop() == 0
