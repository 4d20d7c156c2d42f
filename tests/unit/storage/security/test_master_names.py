"""A master key is held by its name while a batch writes what it wraps."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine.secret_contexts import OLD
from tidemill.domain.errors import TransientError
from tidemill.storage.security.data_keys import hold_master


class Removing:
    """A connection to a database from which somebody removes the name as often as it is written."""

    def __init__(self) -> None:
        self.executed = 0

    async def fetchval(self, *_: Any) -> None:
        return None

    async def execute(self, *_: Any) -> str:
        self.executed += 1
        return "INSERT 0 1"


async def test_a_name_that_is_removed_at_the_same_moment_is_tried_again_by_the_batch() -> None:
    connection: Any = Removing()
    with pytest.raises(TransientError, match="master key old was removed at this moment"):
        await hold_master(connection, OLD)
    assert connection.executed == 1
