"""Connecting to PostgreSQL, so that an attempt that fails leaves no connection open.

The driver closes a connection whose login failed, and does not wait. Over TLS a close needs an exchange, and an
event loop that ends before it is over warns of an open connection.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

import asyncpg
from asyncpg import connect_utils

_encrypted: Final[ContextVar[list[Any] | None]] = ContextVar("encrypted", default=None)
_driver: Final[Any] = connect_utils
_upgrade: Final[Any] = _driver._create_ssl_connection  # noqa: SLF001  there is no public way to its transport


async def connect(*where: Any, **how: Any) -> asyncpg.Connection[asyncpg.Record]:
    """Connect as `asyncpg.connect` does."""
    transports: list[Any] = []
    token = _encrypted.set(transports)
    try:
        made: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(*where, **how)
    except BaseException:
        for transport in transports:
            transport.abort()
        raise
    finally:
        _encrypted.reset(token)
    return made


async def _noted(*where: Any, **how: Any) -> Any:
    transport, protocol = await _upgrade(*where, **how)
    transports = _encrypted.get()
    if transports is not None:
        transports.append(transport)
    return transport, protocol


_driver._create_ssl_connection = _noted  # noqa: SLF001  as above
