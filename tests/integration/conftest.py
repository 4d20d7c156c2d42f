"""Databases at an earlier moment than the usual one: before any migration."""

from collections.abc import Iterator

import pytest

from tests.support.servers.databases import Databases


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[str]:
    """The URL of a database in which nothing has happened yet."""
    with databases.empty() as url:
        yield url
