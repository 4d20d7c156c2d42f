"""Starting a client, so that an abandoned start leaves no connection open.

The client asks its first broker over a connection in a local variable. Abandoned while it waits for the
answer, it leaves that connection open, until the garbage collector finds it and warns. For each
failed connection the reason is stored: `connection_errors`.
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

    The client itself must still be closed: see `close`.
    """
    connections: list[Any] = []
    token = _opened.set(connections)
    try:
        await client.start()
    except BaseException as error:
        for connection in connections:
            if isinstance(error, KafkaConnectionError):  # it accepted the connection, but did not answer
                connection_errors.note(
                    (connection.host, connection.port), error, security_protocol=connection._security_protocol
                )
            connection.close()
        raise
    finally:
        _opened.reset(token)


class Connection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """A connection that ends when it is closed, and fails as the client expects.

    Over TLS a close is an exchange: the other side has half a minute to confirm, and the buffer is still sent.
    The client waits for some of its connections and forgets the others, so an event loop could end before they did.
    """

    def send(self, request: Any, expect_response: bool = True) -> Any:  # noqa: FBT001, FBT002  the client's own
        """Raise what the client catches for a lost connection.

        One that the broker has reset is closed at once, but the client is notified in a later turn of the event loop.
        Until then uvloop raises `RuntimeError` for what is sent (aiokafka's issue 1038), which ended the client's task
        that looks for leaders: its callers waited indefinitely, and a member had left its group
        without notice.
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
    """Connect as the client does; register the connection for `start`, or store why it failed."""
    connection = Connection(host, port, **kwargs)
    try:
        await connection.connect()
    except (KafkaError, OSError, TimeoutError) as error:
        connection_errors.note((host, port), error, **kwargs)
        raise
    connection_errors.forget((host, port))
    connections = _opened.get()
    if connections is not None and "on_close" not in kwargs:  # the client manages the others
        connections.append(connection)
    return connection


def note_connections() -> None:
    """Patch the client to make its connections here, for this process. Safe to repeat."""
    aiokafka.client.create_conn = _noted
