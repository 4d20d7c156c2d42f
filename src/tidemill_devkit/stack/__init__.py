"""Real servers for development: TimescaleDB, Kafka and a schema registry on this machine.

`up()` returns a `Stack` whose servers answer: given ones (environment), containers (if a Docker
daemon answers), else native processes whose programs are fetched once into a cache folder. `down()`
ends them. Test fixtures and `tidemill dev` use these two and `status()`.
"""

from tidemill_devkit.stack.errors import (
    CommandFailedError,
    DevstackError,
    MissingPrerequisiteError,
    NotOwnedError,
    ServerFailedError,
)
from tidemill_devkit.stack.plan import Server
from tidemill_devkit.stack.stack import Stack, TakenDown, down, up
from tidemill_devkit.stack.status import ServerStatus, StackStatus, status
from tidemill_devkit.stack.tools import console_consumer_command, console_producer_command, kcat_command

__all__ = [
    "CommandFailedError",
    "DevstackError",
    "MissingPrerequisiteError",
    "NotOwnedError",
    "Server",
    "ServerFailedError",
    "ServerStatus",
    "Stack",
    "StackStatus",
    "TakenDown",
    "console_consumer_command",
    "console_producer_command",
    "down",
    "kcat_command",
    "status",
    "up",
]
