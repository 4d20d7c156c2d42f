"""Choosing TCP ports on the loopback interface that are free, and will not be taken by chance."""

import random
import socket
from collections.abc import Collection, Iterator

# below the range from which the kernel takes the ports of outgoing connections: a port that is kept
# while its stack is down must not be used for a connection meanwhile
FIRST, LAST = 20_000, 32_000


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int, *, taken: Collection[int] = ()) -> list[int]:
    """`count` different free ports, none of them in `taken` (those that other stacks keep)."""
    found: list[int] = []
    for port in _candidates():
        if len(found) == count:
            break
        if port not in taken and port not in found and is_free(port):
            found.append(port)
    return found


def _candidates() -> Iterator[int]:
    while True:
        yield random.randint(FIRST, LAST)  # noqa: S311 - spreads stacks out, guards nothing
