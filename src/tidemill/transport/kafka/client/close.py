"""Ending a client within a deadline, so that nothing that it holds is delivered later.

`stop()` of aiokafka hangs while the broker is unavailable, or raises `CancelledError`; giving it up leaves tasks that
deliver the queue once the broker is back: a zombie in the same process. So a client that does not stop cleanly is cut
off from the network first, and then all of its tasks are ended.
"""

from __future__ import annotations

import asyncio
import inspect
from itertools import chain
from typing import Any, Final

from aiokafka.errors import ProducerClosed

from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger

_log = logger(__name__)

_PARTS: Final = ("client", "_client", "_sender", "_message_accumulator", "_coordinator", "_fetcher")
_ENDING_S: Final = 1.0


async def hard_close(client: Any, timeout_s: float) -> bool:
    """End a consumer, producer or admin client; return whether it stopped cleanly within `timeout_s`.

    Takes at most about a second more, also without a broker. Raises only if it is cancelled.
    """
    stopping = asyncio.ensure_future(client.stop() if hasattr(client, "stop") else client.close())
    try:
        await asyncio.wait({stopping}, timeout=timeout_s)
    except asyncio.CancelledError:
        cut(client)
        raise
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return True
    _log.info(Log.CLIENT_CUT_OFF, client=type(client).__name__, after_s=timeout_s)
    await kill(client)
    _look_at(stopping)
    return False


async def kill(client: Any) -> None:
    """End a client at once, without asking it: cut it off, then end its tasks. Takes at most about a second."""
    cut(client)
    client._closed = True  # or its finaliser warns; first, since a cancellation may follow
    tasks = _tasks_of(client)
    deadline = asyncio.get_running_loop().time() + _ENDING_S
    while tasks and asyncio.get_running_loop().time() < deadline:
        for task in tasks:
            task.cancel()  # more than once: the sender handles the first one by waiting for its requests
        done, tasks = await asyncio.wait(tasks, timeout=0.05)
        for task in done:
            _look_at(task)
    _answer_all(client)


def cut(client: Any) -> None:
    """Disconnect a client permanently, at once: what it has not sent yet is never sent."""
    network = getattr(client, "client", None) or client._client  # aiokafka has no public method
    network._get_conn = _no_connection
    for connection in tuple(network._conns.values()):
        connection.close()  # a connection of `start`: it does not flush its buffer


async def _no_connection(*_: Any, **__: Any) -> None:
    """The connection of a cut client, which acts as a broker that is not ready."""


def _tasks_of(client: Any) -> set[asyncio.Task[Any]]:
    """Return the tasks that run a method of the client or of one of its parts: it keeps no complete list itself."""
    owners = {id(client), *(id(part) for name in _PARTS if (part := getattr(client, name, None)) is not None)}
    return {task for task in asyncio.all_tasks() if id(_self_of(task)) in owners} - {asyncio.current_task()}


def _self_of(task: asyncio.Task[Any]) -> Any:
    coroutine = task.get_coro()
    frame = coroutine.cr_frame if inspect.iscoroutine(coroutine) else None
    return frame.f_locals.get("self") if frame is not None else None


def _answer_all(client: Any) -> None:
    """Fail futures that are still awaited, and mark them as retrieved."""
    accumulator = getattr(client, "_message_accumulator", None)
    if accumulator is None:
        return
    batches = [*chain.from_iterable(accumulator._batches.values()), *accumulator._pending_batches]
    accumulator.fail_all(ProducerClosed())
    manager = client._txn_manager
    waiters = [] if manager is None else [manager._transaction_waiter, manager._pid_waiter]
    for batch in batches:
        waiters += [batch.future, batch._drain_waiter]
    for waiter in waiters:
        if waiter is not None:
            _look_at(waiter)


def _look_at(future: asyncio.Future[Any]) -> None:
    """Retrieve an unused result, or asyncio warns when the future is collected."""
    if future.done() and not future.cancelled():
        future.exception()
