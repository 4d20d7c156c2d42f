"""An upgrade from each version before, as docs/operations.md orders it, under load and in both directions.

`tests/versions` has the wheels of these versions, as they were built from their commits: processes of one of them work
on a database that it has made, which is migrated under them; then processes of this version take over, give back, and
take over again. The wheel of 0.3.0 is of its last commit without entities, as the changelog describes it: an upgrade
from it passes every migration since.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest

from tests.acceptance.conftest import plain_installation
from tests.acceptance.test_hand_over import await_shared
from tests.support.clients.clients import Feed
from tests.support.clients.journeys import Deployment, Worker
from tests.support.http.api import OWN, address_of, await_answers, tick
from tests.support.plug_ins.versions import WHEELS, unpacked, with_version
from tests.support.seeds import sample
from tests.support.servers.databases import Databases
from tests.support.servers.installation import Installation
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill import __version__
from tidemill_devkit.stack import Stack

LANES = 4
MORE = 200


@dataclass(frozen=True)
class Before:
    """A version before, and where it keeps what a test asks it for. `told`: its processes tell their version."""

    version: str
    resources: str
    told: bool

    @property
    def wheel(self) -> Path:
        return WHEELS / f"tidemill-{self.version}-py3-none-any.whl"


VERSIONS = [
    Before("0.1.0", resources="tidemill.resources", told=False),
    Before("0.2.0", resources="tidemill.resources", told=True),
    Before("0.3.0", resources="tidemill.runtime.resources", told=True),
    Before("0.4.0", resources="tidemill.runtime.resources", told=True),
    Before("0.5.0", resources="tidemill.runtime.resources", told=True),
    Before("0.6.0", resources="tidemill.runtime.resources", told=True),
    Before("0.7.0", resources="tidemill.runtime.resources", told=True),
]

_ORIGIN = """
import json
from importlib.metadata import distribution, entry_points
import tidemill, {resources} as resources
(program,) = entry_points(group="console_scripts", name="tidemill")
print(json.dumps([
    tidemill.__file__, str(program.dist.locate_file("tidemill/__init__.py")), distribution("tidemill").version,
    str(resources.schemas_dir()), str(resources.migrations_dir()),
]))
"""


# Each takes more than a minute: the suite upgrades from the last version, `make upgrade` and trials from each of them.
@pytest.fixture(
    scope="module", params=[*sample(VERSIONS[:-1], 0), VERSIONS[-1]], ids=lambda before: before.version
)
def before(request: pytest.FixtureRequest) -> Before:
    """The version before that is upgraded from."""
    version: Before = request.param
    return version


@pytest.fixture(scope="module")
def packages(before: Before, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its packages."""
    return unpacked(before.wheel, tmp_path_factory.mktemp("before"))


@pytest.fixture
def installation(
    stack: Stack, databases: Databases, topic_prefix: str, tmp_path: Path
) -> Iterator[Installation]:
    """Settings of a database in which nothing has happened yet."""
    with databases.empty() as database:
        yield plain_installation(stack, database, topic_prefix, LANES, tmp_path)


def test_every_wheel_is_upgraded_from() -> None:
    assert {before.wheel for before in VERSIONS} == set(WHEELS.glob("*.whl"))


def test_the_version_before_comes_from_its_wheel_alone(
    installation: Installation, before: Before, packages: Path
) -> None:
    environment = with_version(installation, packages, installation.folder).whole_environment()
    program = _ORIGIN.format(resources=before.resources)
    said = subprocess.check_output(
        [sys.executable, "-c", program], env=environment, text=True, timeout=HANGING_S
    )
    package = packages / "tidemill"
    assert json.loads(said) == [
        *[str(package / "__init__.py")] * 2,
        before.version,
        str(package / "_schemas"),
        str(package / "_migrations"),
    ]


def await_versions(deployment: Deployment, expected: set[str]) -> None:
    def told() -> bool:
        rows = deployment.installation.fetch("select version from tm.process")
        return {row["version"] for row in rows} == expected

    eventually_blocking(told, what=f"processes of {sorted(expected)}")


def stored(deployment: Deployment) -> dict[str, int]:
    """Return how many packs and rows the outbox has."""
    counts = "select (select count(*) from tm.pack) as packs, (select count(*) from tm.outbox) as rows"
    return dict(deployment.installation.fetch(counts)[0])


def to_packs_and_back(
    new: Deployment, old: Deployment, worker: Worker, goes_on: Callable[..., None]
) -> tuple[Worker, Worker]:
    """Use packs, go back to the version before, which cannot read them, and forward again; return who took over."""
    new("generations", "use", "packs")
    goes_on(worker)
    assert stored(new)["packs"] > 0
    before = back(new, old, worker, goes_on)
    after = new.start("all")
    goes_on(before, after)
    assert before.stop() == 0
    new("generations", "use", "packs")
    goes_on(after)
    return before, after


def back(new: Deployment, old: Deployment, worker: Worker, goes_on: Callable[..., None]) -> Worker:
    """Go back from `worker` to the version before, as docs/operations.md orders it."""
    new("generations", "use", "rows")
    packs = stored(new)["packs"]
    eventually_blocking(
        lambda: new("generations", "show", "--json").json()["unsent_packs"] == 0, what="all packs to be sent"
    )
    goes_on(worker)
    assert worker.stop() == 0
    last = old.start("all")
    goes_on(last)
    assert stored(new)["packs"] == packs, "only rows were written since"
    return last


def assert_written_over_http(deployment: Deployment) -> None:
    """What serves HTTP may come first: the version before applies what it sends, and its drain is one as well."""
    server = deployment.start("http", **OWN)
    await_answers(server)
    with httpx2.Client(base_url=address_of(server), timeout=HANGING_S) as client:
        written = client.post("/api/db/market-data", json=tick("HTTP"), headers={"Prefer": "wait=30"})
    assert (written.status_code, written.json()["outcome"]) == (201, "applied")
    assert server.stop() == 0


@pytest.mark.slow
def test_a_database_is_migrated_under_processes_of_the_version_before(
    installation: Installation, before: Before, packages: Path, exit_stack: ExitStack
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

    def await_told(*versions: str) -> None:
        """The processes that serve are of these versions, as far as they tell."""
        await_versions(new, {each for each in versions if before.told or each != before.version})

    with feed.running():
        goes_on(first)
        new("migrate")
        new("topics", "create")
        new("topics", "check")
        goes_on(first)
        if before.version == VERSIONS[-1].version:
            assert_written_over_http(new)
        second = new.start("all")
        goes_on(first, second)
        await_told(before.version, __version__)
        assert first.stop() == 0
        goes_on(second)
        await_told(__version__)
        third = old.start("all")
        goes_on(second, third)
        assert second.stop() == 0
        goes_on(third)
        fourth = new.start("all")
        goes_on(third, fourth)
        if before.told:
            assert before.version in new("generations", "use", "packs", expect=2).err
        assert third.stop() == 0
        goes_on(fourth)
        fifth, sixth = to_packs_and_back(new, old, fourth, goes_on)
    new.await_consumed(len(feed.acknowledged))
    new.assert_conserved(feed.acknowledged, projecting=True)
    new.assert_balanced_by_an_outsider()
    for name in ("latest-quotes", "daily-bars"):
        new("projections", "verify", name)
    for worker in (first, second, third, fourth, fifth, sixth):
        assert not worker.said("service_failed"), "a fault, not only a server that was waited for"
    assert sixth.stop() == 0
