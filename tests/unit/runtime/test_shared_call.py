"""A call is made once for all that need it at a time, and its error reaches each of them."""

from __future__ import annotations

import asyncio

import pytest

from tidemill.runtime.shared_call import SharedCall


class Counted:
    """A call that waits for the test."""

    def __init__(self) -> None:
        self.calls = 0
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.calls += 1
        self.began.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error


async def test_it_is_made_once_at_a_time_and_again_afterwards() -> None:
    counted = Counted()
    shared = SharedCall(counted)
    await shared.wait()
    for _ in range(3):
        shared.begin()
    waiting = [asyncio.create_task(shared.wait()) for _ in range(3)]
    await counted.began.wait()
    counted.may_end.set()
    await asyncio.gather(*waiting)
    assert counted.calls == 1
    shared.begin()
    await shared.wait()
    assert counted.calls == 2


async def test_an_error_reaches_all_that_wait() -> None:
    counted = Counted()
    counted.error = KeyError("x")
    counted.may_end.set()
    shared = SharedCall(counted)
    shared.begin()
    results = await asyncio.gather(shared.wait(), shared.wait(), return_exceptions=True)
    assert [type(result) for result in results] == [KeyError, KeyError]


async def test_the_end_cancels_it() -> None:
    counted = Counted()
    shared = SharedCall(counted)
    await shared.close()
    shared.begin()
    waiting = asyncio.create_task(shared.wait())
    await counted.began.wait()
    await shared.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
