import socket

from tidemill_devkit.stack.ports import free_ports, is_free


def test_ports_are_different_free_and_not_taken() -> None:
    first = free_ports(20)
    second = free_ports(20, taken=first)
    assert len({*first, *second}) == 40
    assert all(is_free(port) for port in second)


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])
