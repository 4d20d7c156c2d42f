"""Stop signals are handled by the main thread of a process, which does nothing else.

An event loop handles a signal when it runs, and a stuck loop does not run. So the work runs in a thread of
its own, and Python runs the handlers in the main one, which needs no more than the interpreter's lock for a moment.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Final, TypeVar

T = TypeVar("T")

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_LOOK_EVERY_S: Final = (
    0.25  # in case the system delivered a signal to another thread, which does not wake this one
)


def run_beside_signals(work: Callable[[], T], heard: Callable[[signal.Signals], None]) -> T:
    """Run `work` in a thread and return what it returns, or raise what it raises. Call it in the main thread.

    `heard` is called in the main thread at each stop signal, whatever the work is doing, and must not raise.
    """
    answer: Future[T] = Future()
    context = copy_context()  # the main thread's bound log fields
    thread = threading.Thread(
        target=lambda: context.run(_carry_out, work, answer), name="tidemill loop", daemon=True
    )
    before = {
        number: signal.signal(number, lambda number, _: heard(signal.Signals(number)))
        for number in STOP_SIGNALS
    }
    try:
        thread.start()
        while thread.is_alive():
            thread.join(_LOOK_EVERY_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return answer.result()


def _carry_out(work: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(work())
    except BaseException as error:  # noqa: BLE001  raised again in the main thread
        answer.set_exception(error)
