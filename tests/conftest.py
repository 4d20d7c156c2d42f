"""What every test may ask for: real servers, a database of its own, names that nobody else has."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from tests.support.servers.databases import Databases, fetch
from tests.support.servers.nursery import KEEPS_DEADLINES
from tests.support.servers.stack import Run
from tidemill_devkit.stack import Stack
from tidemill_devkit.stack.locate import docker_answers

pytest_plugins = ["tests.support.seeds", "tests.support.measured"]
RUN = pytest.StashKey[Run]()
TESTS = Path(__file__).parent
SHARED_FOLDERS = ("tests/acceptance/interop/", "tests/integration/devkit/stack/")
LONGEST_FIRST = ("acceptance", "trials", "integration", "conformance", "architecture", "unit")
COMPUTING = {"architecture", "unit"}
JOURNEYS = {"acceptance", "trials"}
"""Where every test is slow: `make test` leaves them out, `make test-all` does not."""

# How fast a machine is decides no result: examples have no deadline, and may take long to be made.
settings.register_profile("tidemill", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tidemill")


def pytest_configure(config: pytest.Config) -> None:
    given: dict[str, Any] = getattr(config, "workerinput", {})
    uid = given.get("tidemill_run", uuid4().hex[:8])
    config.stash[RUN] = Run(uid, given.get("workerid", "main"))
    gc.disable()  # what is imported and collected stays: nothing of it is garbage


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist which run it belongs to."""
    node.workerinput["tidemill_run"] = node.config.stash[RUN].uid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a worker whole files, and whole folders that share what is dear to make.

    xdist's own groups (`xdist_group`) have no effect under pytest 9.2, whose ids xdist 3.8 cannot mark.
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # not there without xdist

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return next((folder for folder in SHARED_FOLDERS if file.startswith(folder)), file)

    config.option.loadscopereorder = False  # it would leave the files of one long journey for the end
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the journeys that take longest, so that no worker ends long after the others.

    Between them stand files that only compute, while there are any: journeys wait for servers and leave cores idle.
    """
    for item in items:
        if _kind(item) in JOURNEYS:
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (LONGEST_FIRST.index(_kind(item)), item.path not in slow))
    computing = [item for item in items if _kind(item) in COMPUTING]
    waiting = [item for item in items if _kind(item) not in COMPUTING]
    items[:] = [item for file in _alternating(waiting, computing) for item in file]


def _kind(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


def _alternating(*kinds: list[pytest.Item]) -> Iterator[list[pytest.Item]]:
    """Return the files' tests, a file of each kind in turn."""
    files = [[list(tests) for _, tests in groupby(items, lambda item: item.path)] for items in kinds]
    for turn in zip_longest(*files, fillvalue=[]):
        yield from turn


def pytest_collection_finish() -> None:
    """Spare the cyclic collector all that was imported and collected: it took 3 % of the whole run."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    # the process that started the workers ends last
    if not hasattr(config, "workerinput") and RUN in config.stash:
        config.stash[RUN].finish()


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """A verb that is called in this process configures logging for itself, not for the tests behind it."""
    logging.disable(logging.NOTSET)
    for name, one in _loggers().items():
        if name.startswith("aiokafka"):
            one.disabled, one.propagate = False, True
            one.setLevel(logging.NOTSET)
            one.filters.clear()
    before = {name: _manner(one) for name, one in _loggers().items()}
    yield
    for name, one in _loggers().items():
        level, one.disabled, one.propagate = before.get(name, (logging.NOTSET, False, True))
        one.setLevel(level)


def _loggers() -> dict[str, logging.Logger]:
    known = logging.root.manager.loggerDict
    return {"": logging.root} | {name: one for name, one in known.items() if isinstance(one, logging.Logger)}


def _manner(one: logging.Logger) -> tuple[int, bool, bool]:
    return one.level, one.disabled, one.propagate


@pytest.fixture(scope="session")
def run(pytestconfig: pytest.Config) -> Run:
    """This test run."""
    return pytestconfig.stash[RUN]


@pytest.fixture(scope="session")
def stack(run: Run) -> Stack:
    """TimescaleDB, Kafka and a registry, shared by the whole run: never break or reconfigure them."""
    return run.shared_stack()


@pytest.fixture(scope="module")
def breakable_stack(run: Run) -> Iterator[Stack]:
    """Servers of this worker alone, to be stopped, killed and frozen at will; whole at each module's start."""
    broken = run.breakable_stack()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(
            KEEPS_DEADLINES, "1"
        )  # that a process ends in time although servers are unavailable is the point
        yield broken
    broken.repair()
    broken.kafka.freeze()  # an idle broker takes 2 % of a core; whoever asks for the stack next thaws it


@pytest.fixture(scope="session")
def databases(run: Run, stack: Stack) -> Databases:
    """Databases of this worker on the servers that all share."""
    return run.databases(stack)


@pytest.fixture(scope="session")
def new_database(databases: Databases) -> Callable[[], AbstractContextManager[str]]:
    """`with new_database() as url`: for a module of its own scope, or for more than one at once."""
    return databases.fresh


@pytest.fixture
def database(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The URL of a fresh database of this test alone (a superuser's)."""
    with new_database() as url:
        yield url


@pytest.fixture(scope="module")
def new_breakable_database(run: Run, breakable_stack: Stack) -> Callable[[], AbstractContextManager[str]]:
    """`new_database` on the servers that may be broken."""
    return run.databases(breakable_stack).fresh


@pytest.fixture
def breakable_database(
    breakable_stack: Stack, new_breakable_database: Callable[[], AbstractContextManager[str]]
) -> Iterator[str]:
    """A fresh database on the servers that may be broken; whatever the test broke is mended afterwards."""
    breakable_stack.repair()
    with new_breakable_database() as url:
        yield url
        breakable_stack.repair()


@pytest.fixture(scope="session")
def unique_name(run: Run) -> Callable[[str], str]:
    """`unique_name("market-data")` is a name for an aggregate, topic or group that nobody else has."""
    numbers = run.names()
    return lambda stem: f"{stem}-{next(numbers)}"


@pytest.fixture
def topic_prefix(unique_name: Callable[[str], str]) -> str:
    """What the names of this test's topics begin with."""
    return f"{unique_name('test')}."


@pytest.fixture(scope="session")
def timescaledb_edition(new_database: Callable[[], AbstractContextManager[str]]) -> str:
    """`apache` or `timescale` (the Community edition)."""
    with new_database() as url:
        return str(fetch(url, "SELECT current_setting('timescaledb.license')")[0][0])


@pytest.fixture(autouse=True)
def _edition_gate(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("community") is None:
        return
    edition = request.getfixturevalue("timescaledb_edition")
    if edition != "timescale":
        pytest.skip(f"needs TimescaleDB's Community edition; the server at hand is of the {edition} edition")


@pytest.fixture(autouse=True)
def _way_gate(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("native") is not None and docker_answers():
        pytest.skip(
            "looks at servers as processes of this machine; a Docker daemon answers, so they are containers"
        )
