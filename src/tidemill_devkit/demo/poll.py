"""Asking again and again for what comes soon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

_POLL_S: Final = 0.2


async def polled(ask: Callable[[], Awaitable[T | None]]) -> T:
    """Return the first answer that is not None; what ends it otherwise, `ask` raises."""
    while True:
        if (answer := await ask()) is not None:
            return answer
        await asyncio.sleep(_POLL_S)
