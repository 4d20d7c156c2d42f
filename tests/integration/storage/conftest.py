"""Databases at an earlier moment than the usual one: before any migration."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.databases import database_of, drop, execute
from tidemill.devstack import Stack


@pytest.fixture
def empty_database(stack: Stack, unique_name: Callable[[str], str]) -> Iterator[str]:
    """The URL of a database in which nothing has happened yet."""
    name = unique_name("empty").replace("-", "_")
    execute(stack.database_url, f'create database "{name}"')
    try:
        yield database_of(stack.database_url, name)
    finally:
        drop(stack.database_url, name)
