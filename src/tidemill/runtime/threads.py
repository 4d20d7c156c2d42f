"""Blocking work in separate threads, with a limit on the wait.

A foreign storage may never answer, and a thread cannot be ended from outside: an abandoned one continues
until its call returns, and its result is discarded. It keeps neither the caller nor the end of the process
waiting, and there are never many: while some hang, nothing more is started.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Final, TypeVar

from tidemill.domain.errors import Unavailable

T = TypeVar("T")

MAX_GIVEN_UP: Final = 8

_given_up: set[threading.Thread] = set()


async def in_thread(
    work: Callable[[], T], *, server: str, timeout_s: float, idle_s: Callable[[], float] | None = None
) -> T:
    """Return what `work` returns, or raise what it raises. `server`: the one that it waits for, as in `Unavailable`.

    `idle_s` returns for how long it made no progress: then it may take any time, but never `timeout_s` without
    any.

    Raises:
        Unavailable: it took longer than `timeout_s`, or too many earlier calls still hang, and it was not started.
    """
    _given_up.difference_update([each for each in _given_up if not each.is_alive()])
    if len(_given_up) >= MAX_GIVEN_UP:
        raise Unavailable(server, f"{len(_given_up)} abandoned calls still hang")
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()  # so that abandoning it cannot make the thread fail
    context = copy_context()
    thread = threading.Thread(
        target=lambda: context.run(_carry_out, work, answer), name=f"tidemill {server}", daemon=True
    )
    thread.start()
    waiting = asyncio.wrap_future(answer)
    try:
        left_s = timeout_s
        while left_s > 0 and not waiting.done():
            await asyncio.wait({waiting}, timeout=left_s)
            left_s = 0.0 if idle_s is None else timeout_s - idle_s()
        if waiting.done():
            return waiting.result()
        raise Unavailable(server, f"no {'progress' if idle_s else 'answer'} within {timeout_s:g} s")
    finally:
        if not waiting.done():
            waiting.cancel()
            _given_up.add(thread)


def _carry_out(work: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(work())
    except BaseException as error:  # noqa: BLE001  it is the waiting one's
        answer.set_exception(error)
