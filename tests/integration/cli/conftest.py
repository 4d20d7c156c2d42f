"""Installations for the verbs: a fresh one per test, and one per module that serves all the time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.servers.installation import Installation, installation_on
from tidemill_devkit.stack import Stack


@pytest.fixture
def installation(stack: Stack, database: str, topic_prefix: str, tmp_path: Path) -> Installation:
    """Two lanes per aggregate; neither topics nor lanes exist yet."""
    return installation_on(stack, database, topic_prefix, tmp_path)


@pytest.fixture
def prepared(installation: Installation) -> Installation:
    """Topics and lanes exist, schemas are registered; nothing serves."""
    installation("schemas", "register")
    installation("topics", "create")
    return installation


@pytest.fixture(scope="module")
def served(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:
    """An installation with everything running, shared by the tests of a module."""
    with new_database() as database:
        folder = tmp_path_factory.mktemp("served")
        installation = installation_on(stack, database, unique_name("served"), folder)
        installation("schemas", "register")
        installation("topics", "create")
        with installation.serving():
            yield installation
