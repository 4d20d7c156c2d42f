"""The real parts for development: TimescaleDB, Kafka and a schema registry on this machine.

`up()` returns a `Stack` whose servers answer: given ones (environment), containers (if a Docker
daemon answers), else native processes whose programs are fetched once into a cache folder. `down()`
ends them. Test fixtures and `tidemill dev` stand on these two and `status()`.
"""

from tidemill.devstack.errors import (
    CommandFailedError,
    DevstackError,
    MissingPrerequisiteError,
    NotOwnedError,
    ServerFailedError,
)
from tidemill.devstack.plan import Server
from tidemill.devstack.stack import Stack, down, up

__all__ = [
    "CommandFailedError",
    "DevstackError",
    "MissingPrerequisiteError",
    "NotOwnedError",
    "Server",
    "ServerFailedError",
    "Stack",
    "down",
    "up",
]
