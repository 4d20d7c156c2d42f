"""An open port says nothing: Docker's proxy listens for a server that is not there yet."""

import socket
from threading import Thread

import pytest

from tidemill_devkit.stack.probes import postgres_answers


@pytest.mark.parametrize(
    ("reply", "answers"),
    [
        pytest.param(b"R\0\0\0\x17\0\0\0\x0a", True, id="it asks for the password"),
        pytest.param(b"E\0\0\0\x20SFATAL\0C57P03\0", False, id="it still recovers"),
        pytest.param(b"", False, id="the proxy closes"),
    ],
)
def test_a_database_answers_once_one_could_log_in(reply: bytes, answers: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(reply)

        thread = Thread(target=serve)
        thread.start()
        assert postgres_answers(*server.getsockname()) is answers
        thread.join()
