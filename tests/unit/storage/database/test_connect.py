"""A login that fails over TLS leaves no connection to a server that does not agree to its end."""

import asyncio
import socket
import ssl
import struct
import threading
from pathlib import Path

import asyncpg
import pytest

from tests.support.servers.certificates import Certificate, new_authority
from tidemill.storage.database.connect import connect

REFUSAL = b"SFATAL\0C28P01\0Mno such login\0\0"


def refuse(listening: socket.socket, certificate: Certificate, ended: threading.Event) -> None:
    """Refuse a login, then read nothing but the end of the stream of bytes below TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    plain, _ = listening.accept()
    plain.settimeout(5)
    plain.recv(8)
    plain.sendall(b"S")
    with socket.fromfd(plain.fileno(), plain.family, plain.type) as below:
        below.settimeout(5)
        with context.wrap_socket(plain, server_side=True) as caller:
            caller.recv(1 << 10)
            caller.sendall(b"E" + struct.pack("!i", 4 + len(REFUSAL)) + REFUSAL)
            while below.recv(1 << 10):
                pass
            ended.set()


async def test_a_refused_login_over_tls_is_dropped_at_once(tmp_path: Path) -> None:
    authority, ended = new_authority(tmp_path, "authority"), threading.Event()
    server = authority.sign("server", host="localhost")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=refuse, args=(listening, server, ended))
        thread.start()
        url = f"postgresql://u:p@localhost:{listening.getsockname()[1]}/x"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await connect(url, ssl=ssl.create_default_context(cafile=authority.cert))
        await asyncio.to_thread(thread.join, 2)
    assert ended.is_set()
