"""The only place where tests wait: for a condition, with a deadline, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")
POLL_INTERVAL_S = 0.02
HANGING_S = 300.0
"""What takes longer than this hangs: no test is decided by how fast a machine is, so nothing waits for less."""


async def next_turn() -> None:
    """Let whoever is ready run once; takes no time."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_soon(over.set)
    await over.wait()


@overload
async def eventually(
    check: Callable[[], Awaitable[T]],
    timeout_s: float = HANGING_S,
    what: str = "the condition",
    *,
    retry_on: tuple[type[Exception], ...] = (),
) -> T: ...
@overload
async def eventually(
    check: Callable[[], T],
    timeout_s: float = HANGING_S,
    what: str = "the condition",
    *,
    retry_on: tuple[type[Exception], ...] = (),
) -> T: ...
async def eventually(
    check: Callable[[], T | Awaitable[T]],
    timeout_s: float = HANGING_S,
    what: str = "the condition",
    *,
    retry_on: tuple[type[Exception], ...] = (),
) -> T:
    """The first truthy result of `check` (plain or async), polled until `timeout_s` has passed.

    An exception of `retry_on` counts as not yet; any other one ends the wait at once. When time is
    up it raises AssertionError with `what` and the last thing seen.
    """
    deadline = time.monotonic() + timeout_s
    seen: object = "nothing: the first check did not return"
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            result = await _result_of(check, left_s)
        except retry_on as error:
            seen = error
        except TimeoutError:
            break
        else:
            if result:
                return result
            seen = result
        await asyncio.sleep(POLL_INTERVAL_S)
    raise AssertionError(f"{what}: not within {timeout_s} s; last seen: {seen!r}")


async def _result_of(check: Callable[[], T | Awaitable[T]], timeout_s: float) -> T:
    result = check()
    return await asyncio.wait_for(result, timeout_s) if isinstance(result, Awaitable) else result


def eventually_blocking(
    check: Callable[[], T],
    timeout_s: float = HANGING_S,
    what: str = "the condition",
    *,
    retry_on: tuple[type[Exception], ...] = (),
) -> T:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + timeout_s
    seen: object = None
    while time.monotonic() < deadline:
        try:
            result = check()
        except retry_on as error:
            seen = error
        else:
            if result:
                return result
            seen = result
        time.sleep(POLL_INTERVAL_S)
    raise AssertionError(f"{what}: not within {timeout_s} s; last seen: {seen!r}")
