"""How much is tried: in the suite a sample, with `TIDEMILL_HTTP_TRIALS=full` all of it."""

from __future__ import annotations

import os
from typing import Final

FULL: Final = os.environ.get("TIDEMILL_HTTP_TRIALS") == "full"


def sized(sample: int, full: int) -> int:
    """Return how many of a thing a test tries."""
    return full if FULL else sample
