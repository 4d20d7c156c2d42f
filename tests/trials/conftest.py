"""An archive of its own for every trial."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.archive.site import Archive, archive


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Archive]:
    async with archive(database, tmp_path / "lake") as made:
        made.policy = replace(made.policy, most_seals=64)
        yield made
