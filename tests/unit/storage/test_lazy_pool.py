"""A pool that is opened when it is first needed, by one of those who need it, and again after a failure."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tidemill.domain.errors import Unavailable
from tidemill.storage.database.lazy_pool import LazyPool
from tidemill.storage.database.pool import Pool


class Opener:
    """Opens pools after so many failures."""

    def __init__(self, failures: int = 0) -> None:
        self.calls = 0
        self.failures = failures

    async def __call__(self) -> Pool:
        self.calls += 1
        others_had_their_turn = asyncio.Event()
        asyncio.get_running_loop().call_soon(others_had_their_turn.set)
        await others_had_their_turn.wait()
        if self.calls <= self.failures:
            raise Unavailable("database", "not yet")
        return cast("Pool", object())


async def test_it_is_opened_once_by_many() -> None:
    opener = Opener()
    pool = LazyPool(opener)
    assert opener.calls == 0
    found: list[Any] = await asyncio.gather(*(pool.opened() for _ in range(3)))
    assert len(set(map(id, found))) == opener.calls == 1


async def test_it_is_tried_again_after_a_failure() -> None:
    opener = Opener(failures=1)
    pool = LazyPool(opener)
    with pytest.raises(Unavailable):
        await pool.opened()
    assert await pool.opened() is not None
    assert opener.calls == 2
