"""Starting a client, so that a start which is given up leaves no connection behind.

The client asks its first broker over a connection that it keeps in a local variable. Given up while it waits for the
answer, it forgets that connection open: the broker keeps it until the collector finds it, which complains. Of each
connection that is not made, the reason is noted: `refusals`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

import aiokafka.client
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError

from tidemill.transport.kafka.client import connection_errors

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
                connection_errors.note(
                    (connection.host, connection.port), error, security_protocol=connection._security_protocol
                )
            connection.close()
        raise
    finally:
        _opened.reset(token)


class Connection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """A connection that ends when it is closed, and fails as the client expects.

    Over TLS a close is a talk: the other side has half a minute to agree, and what waits in the buffer still goes out.
    The client waits for some of its connections and forgets the others, so an event loop could end before they did.
    """

    def send(self, request: Any, expect_response: bool = True) -> Any:  # noqa: FBT001, FBT002  the client's own
        """Raise of a connection that is gone what the client catches.

        One that the broker has reset is closed at once, but the client hears of it in a later turn of the event loop.
        Until then uvloop raises `RuntimeError` for what is sent (aiokafka's issue 1038), which ended the client's task
        that looks for leaders: whoever asked it to look, waited indefinitely, and a member of a group was none any more
        without knowing.
        """
        try:
            return super().send(request, expect_response)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
            raise KafkaConnectionError(
                f"the connection to {self.host}:{self.port} is gone: {error}"
            ) from error

    def close(self, reason: Any = None, exc: Any = None) -> Any:
        transport = None if self._writer is None else self._writer.transport
        closed = super().close(reason=reason, exc=exc)
        if transport is not None:
            transport.abort()
        return closed


async def _noted(host: str, port: int, **kwargs: Any) -> Any:
    """Connect as the client does; note the connection for who starts it, and of one that is not made, why."""
    connection = Connection(host, port, **kwargs)
    try:
        await connection.connect()
    except (KafkaError, OSError, TimeoutError) as error:
        connection_errors.note((host, port), error, **kwargs)
        raise
    connection_errors.forget((host, port))
    connections = _opened.get()
    if connections is not None and "on_close" not in kwargs:  # the others are known to the client
        connections.append(connection)
    return connection


def note_connections() -> None:
    """Have the client make its connections here, for this process. Safe to repeat."""
    aiokafka.client.create_conn = _noted
