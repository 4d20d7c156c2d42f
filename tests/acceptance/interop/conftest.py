"""One installation that serves, for everybody who speaks to it from the outside."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.support.clients.outsiders import Outsider
from tests.support.servers.installation import Installation, Serving, installation_on
from tidemill_devkit.stack import Stack


@pytest.fixture(scope="session")
def installed(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:
    """Four lanes per aggregate, schemas in the registry."""
    with new_database() as database:
        folder = tmp_path_factory.mktemp("interop")
        installation = installation_on(stack, database, unique_name("interop"), folder, partitions=4)
        installation("schemas", "register")
        installation("topics", "create")
        yield installation


@pytest.fixture(scope="session")
def serving(installed: Installation) -> Iterator[Serving]:
    """The one process that does all the work."""
    with installed.serving() as serving:
        yield serving


@pytest.fixture(scope="session")
def outsider(stack: Stack, installed: Installation, serving: Serving) -> Outsider:
    """A program that was told where the servers are, while Tidemill serves."""
    if stack.registry_url is None:
        pytest.skip("needs a schema registry: set TIDEMILL_TEST_REGISTRY_URL too")
    return Outsider(stack.kafka_bootstrap, stack.registry_url, installed.prefix)
