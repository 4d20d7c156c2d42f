"""Work that blocks, in threads of its own, for as long as we are willing to wait.

A storage of somebody else's may never answer, and nobody can end a thread from outside: one that was given up goes on
until its call returns, and what it gives is thrown away. It keeps neither the caller nor the end of the process
waiting, and there are never many: while some hang, nothing more is begun.
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
    """Return what `work` returns, or raise what it raises. `server`: who may keep it waiting, as in `Unavailable`.

    `idle_s` tells for how long it made no progress: then it may take as long as it likes, but never `timeout_s` without
    any.

    Raises:
        Unavailable: it took longer than `timeout_s`, or so many that did are hanging still that it was not begun.
    """
    _given_up.difference_update([each for each in _given_up if not each.is_alive()])
    if len(_given_up) >= MAX_GIVEN_UP:
        raise Unavailable(server, f"{len(_given_up)} calls that were given up are hanging still")
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()  # so that who gives it up cannot make the thread fail
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
