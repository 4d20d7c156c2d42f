"""Starting a client, so that a start which is given up leaves no connection behind.

The client asks its first broker over a connection that it keeps in a local variable. Given up while it waits for the
answer, it forgets that connection open: the broker keeps it until the collector finds it, which complains.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

import aiokafka.client
from aiokafka.conn import create_conn

_opened: Final[ContextVar[list[Any] | None]] = ContextVar("opened", default=None)


async def start(client: Any) -> None:
    """Start a consumer, producer or admin client; whatever ends it early, its first connection is closed.

    The client itself is still to be ended: `closing`.
    """
    connections: list[Any] = []
    token = _opened.set(connections)
    try:
        await client.start()
    except BaseException:
        for connection in connections:
            connection.close()
        raise
    finally:
        _opened.reset(token)


async def _noted(*args: Any, **kwargs: Any) -> Any:
    """Connect as the client does, and note the connection for who starts it."""
    connection = await create_conn(*args, **kwargs)
    connections = _opened.get()
    if connections is not None and "on_close" not in kwargs:  # the others are known to the client
        connections.append(connection)
    return connection


def note_connections() -> None:
    """Have the client's first connections noted, in this process. Safe to repeat."""
    aiokafka.client.create_conn = _noted
