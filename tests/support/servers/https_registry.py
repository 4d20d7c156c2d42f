"""As much of a schema registry as registering takes, over HTTPS and for one user alone."""

from __future__ import annotations

import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.servers.certificates import Certificate
from tests.support.waiting import HANGING_S


@contextmanager
def https_registry(certificate: Certificate, user: str, password: str) -> Iterator[int]:
    """Serve at a port of 127.0.0.1 until the block ends."""
    wanted = "Basic " + b64encode(f"{user}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer(lambda asked: asked)  # the compatibility that was set

        def do_POST(self) -> None:
            self._answer(lambda asked: {"id": 1, "version": 1, **asked})

        def _answer(self, make: Any) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            known = self.headers["authorization"] == wanted
            content = make(asked) if known else {"error_code": 401, "message": "Unauthorized"}
            body = json.dumps(content).encode()
            self.send_response(200 if known else 401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(HANGING_S)
