"""An installation on servers that may be broken."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.servers.installation import Installation, installation_on
from tidemill_devkit.stack import Stack


@pytest.fixture
def partitions() -> int:
    """How many lanes a stream has; a test may say otherwise."""
    return 2


@pytest.fixture
def breakable(
    breakable_stack: Stack,
    breakable_database: str,
    unique_name: Callable[[str], str],
    tmp_path: Path,
    partitions: int,
) -> Installation:
    """Prepared, and nothing serves yet."""
    installation = installation_on(
        breakable_stack, breakable_database, unique_name("breakable"), tmp_path, partitions
    )
    installation("schemas", "register")
    installation("topics", "create")
    return installation
