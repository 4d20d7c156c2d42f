"""An archive of its own for every test, and logins for its processes."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.support.archive.site import Archive, archive
from tests.support.servers.databases import execute


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Archive]:
    async with archive(database, tmp_path / "lake") as made:
        yield made


@pytest.fixture
def login(database: str, unique_name: Callable[[str], str]) -> Iterator[Callable[[str], str]]:
    """Makes the address of a new login that is a member of a role."""
    made = []

    def make(role: str) -> str:
        user = unique_name("login")
        execute(database, f"create role \"{user}\" login password 'secret' in role {role}")
        made.append(user)
        parts = urlsplit(database)
        return parts._replace(netloc=f"{quote(user)}:secret@{parts.hostname}:{parts.port}").geturl()

    yield make
    for user in made:
        execute(database, f'drop owned by "{user}"', f'drop role "{user}"')
