"""How much is tried: in the suite a sample, with `TIDEMILL_HTTP_TRIALS=full` all of it, with 0.1 a tenth of all."""

from __future__ import annotations

import os
from typing import Final

_STATED: Final = os.environ.get("TIDEMILL_HTTP_TRIALS", "0")
SHARE: Final = 1.0 if _STATED == "full" else float(_STATED)


def sized(sample: int, full: int) -> int:
    """Return how many of a thing a test tries; never fewer than in the suite."""
    return max(sample, round(full * SHARE))
