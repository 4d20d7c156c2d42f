"""Clients that ask for what takes long and leave: in order, by a reset, or in the middle of their request."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from tests.support.waiting import HANGING_S

_OPEN_STATES: Final = {"01", "08"}
"""Established, and closed by the peer alone, as `/proc/net/tcp` writes them."""


class Leave(StrEnum):
    """How a client goes."""

    CLOSE = "close"
    RESET = "reset"
    HALF = "in the middle of its request"


@dataclass
class LeavingClient:
    """One request on a connection of its own; nobody reads the answer. `leave`: how its client goes."""

    leave: Leave
    _socket: socket.socket

    @classmethod
    def asking(
        cls, url: str, leave: Leave, method: str, path: str, headers: Mapping[str, str], body: Any = None
    ) -> LeavingClient:
        """Connect, and send a request, or half of it if the client is to leave then."""
        server = urlsplit(url)
        content = b"" if body is None else json.dumps(body).encode()
        lines = {"Host": server.netloc, "Content-Length": str(len(content))} | dict(headers)
        if body is not None:
            lines["Content-Type"] = "application/json"
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        request = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content
        sent = socket.create_connection((server.hostname or "", server.port or 0), timeout=HANGING_S)
        sent.sendall(request[: len(request) // 2] if leave is Leave.HALF else request)
        return cls(leave, sent)

    def go(self) -> None:
        """Leave. A reset also throws away what the server has not read."""
        if self.leave is Leave.RESET:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def open_connections(url: str) -> int:
    """Return how many connections the server at an address holds."""
    port = f":{urlsplit(url).port or 0:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(fields[1].endswith(port) and fields[3] in _OPEN_STATES for fields in lines)


@contextmanager
def locked(database: str, *tables: str) -> Iterator[None]:
    """Keep everybody else from reading and writing tables while the block runs."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(database))
        try:
            runner.run(connection.execute("begin"))
            for table in tables:
                runner.run(connection.execute(f"lock table {table} in access exclusive mode"))
            yield
        finally:
            runner.run(connection.close())
