"""Starting a client, so that a start which is given up leaves no connection behind.

The client asks its first broker over a connection that it keeps in a local variable. Given up while it waits for the
answer, it forgets that connection open: the broker keeps it until the collector finds it, which complains. Of each
connection that is not made, the reason is noted: `refusals`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

import aiokafka.client
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError

from tidemill.transport.kafka import refusals

_opened: Final[ContextVar[list[Any] | None]] = ContextVar("opened", default=None)


async def start(client: Any) -> None:
    """Start a consumer, producer or admin client; whatever ends it early, its first connection is closed.

    The client itself is still to be ended: `closing`.
    """
    connections: list[Any] = []
    token = _opened.set(connections)
    try:
        await client.start()
    except BaseException as error:
        for connection in connections:
            if isinstance(error, KafkaConnectionError):  # it took us, and then would not answer
                refusals.note(
                    (connection.host, connection.port), error, security_protocol=connection._security_protocol
                )
            connection.close()
        raise
    finally:
        _opened.reset(token)


async def _noted(host: str, port: int, **kwargs: Any) -> Any:
    """Connect as the client does; note the connection for who starts it, and of one that is not made, why."""
    try:
        connection = await create_conn(host, port, **kwargs)
    except (KafkaError, OSError, TimeoutError) as error:
        refusals.note((host, port), error, **kwargs)
        raise
    refusals.forget((host, port))
    connections = _opened.get()
    if connections is not None and "on_close" not in kwargs:  # the others are known to the client
        connections.append(connection)
    return connection


def note_connections() -> None:
    """Have the client's first connections noted, in this process. Safe to repeat."""
    aiokafka.client.create_conn = _noted
