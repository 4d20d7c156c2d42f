"""An archive of its own for every test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.archive.site import Archive, archive


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Archive]:
    async with archive(database, tmp_path / "lake") as made:
        yield made
