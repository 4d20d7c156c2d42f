"""Files and sockets that this process has open, and their limit: Kafka's clients hold several for every lane."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger

FILES_OF_A_LANE: Final = 6
FILES_BESIDE: Final = 100
"""The most that a process needs, plus `FILES_OF_A_LANE` for each lane. With one broker it needs half of that."""

_log = logger(__name__)


def raise_limit() -> None:
    """Raise the soft limit of open files, often 1,024, to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # a system that allows less than its limit says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int | None:
    """Return how many files this process may have open, None if that is not limited."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def count() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/dev/fd").iterdir())) - 1  # without the one that lists them


def warn_if_short(lanes: int) -> None:
    """Log a warning if this process may not open enough files to own all `lanes`."""
    most, needed = limit(), FILES_BESIDE + FILES_OF_A_LANE * lanes
    if most is not None and most < needed:
        _log.warning(
            Log.FILES_SHORT,
            limit=most,
            needed=needed,
            lanes=lanes,
            next=f"raise the hard limit to {needed} (`LimitNOFILE=` of systemd, `--ulimit nofile=` of docker), "
            "or share the lanes among more processes",
        )
