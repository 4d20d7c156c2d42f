"""Does a server answer as its clients need it? Asked with a few bytes, without any client library."""

import http.client
import socket
import struct
from urllib.parse import urlsplit

TIMEOUT_S = 2.0


def tcp_answers(host: str, port: int) -> bool:
    """Whether something takes a connection."""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S):
            return True
    except OSError:
        return False


def postgres_answers(host: str, port: int) -> bool:
    """Whether a server would let us log in: an open port may be Docker's, or of a server that still recovers."""
    asked = struct.pack(">i", 3 << 16) + b"user\0postgres\0database\0postgres\0\0"
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
            connection.sendall(struct.pack(">i", len(asked) + 4) + asked)
            return _exactly(connection, 1) == b"R"
    except OSError:
        return False


def kafka_answers(host: str, port: int) -> bool:
    """Whether a Metadata request names at least one broker (an open port alone does not say so)."""
    request = struct.pack(">hhih", 3, 4, 1, 8) + b"devstack" + struct.pack(">ib", 0, 0)
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            size = struct.unpack(">i", _exactly(connection, 4))[0]
            _correlation, _throttle, brokers = struct.unpack_from(">iii", _exactly(connection, size))
            return bool(brokers > 0)
    except (OSError, struct.error):
        return False


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise ConnectionError("closed before the whole answer had come")
        received += piece
    return received


def http_answers(url: str) -> bool:
    """Whether GET `url` says 200; never through a proxy, since the servers are on this machine."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
