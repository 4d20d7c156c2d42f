"""A server that nobody has a reason to call: whoever connects to it was led there by something that it read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread


@dataclass
class Listener:
    """`address`: of the server. `visits`: how often something connected to it."""

    address: str
    visits: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return an address as that from which machines in a cloud get their credentials."""
        return f"http://{self.address}/latest/meta-data/iam/security-credentials/"


@contextmanager
def listening() -> Iterator[Listener]:
    """Listen until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = Listener(f"127.0.0.1:{server.getsockname()[1]}")
        accepting = Thread(target=_accept, args=(server, listener), daemon=True)
        accepting.start()
        yield listener
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _accept(server: socket.socket, listener: Listener) -> None:
    while True:
        try:
            wire, (host, port) = server.accept()
        except OSError:  # it was shut
            return
        listener.visits.append(f"{host}:{port}")
        wire.close()
