"""Pauses that a stop cuts short, and what a task does every so often between them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def stopped_within(stopping: asyncio.Event, seconds: float) -> bool:
    """Pause for so long, but not beyond a stop; return whether that came."""
    if stopping.is_set():  # a timer that nothing waits for takes longer than all else here
        return True
    try:
        async with asyncio.timeout(seconds):  # wait_for of Python 3.11 may swallow a cancellation
            await stopping.wait()
    except TimeoutError:
        return stopping.is_set()
    return True


async def every(
    seconds: float, work: Callable[[], Awaitable[object]], stopping: asyncio.Event | None = None
) -> None:
    """Pause, do `work`, and again, until a stop; without `stopping` until it is cancelled. Raises what `work` does."""
    stopping = stopping or asyncio.Event()
    while not await stopped_within(stopping, seconds):
        await work()
