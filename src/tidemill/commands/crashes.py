"""What becomes of a record on which a context's code raised: it is parked, and the author is told the line."""

from __future__ import annotations

from typing import Final

from tidemill.domain.errors import Unreadable
from tidemill.domain.rejections import ParkingCode
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.rate_limits import RateLimiter
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.tracebacks import frames_of, place_of

_log = logger(__name__)

_TRACEBACKS: Final = RateLimiter(SystemClock(), burst=1, every_s=60.0)
"""One traceback a minute for each line that raises: a record may meet it in every pass of a fold."""


def crashed(fault: Exception, *, quoted: bool = True) -> Unreadable:
    """Return what parks a record on which a context's code raised: the fault is in the code, the bytes are stored.

    `quoted`: False where the text of the fault may hold a secret.
    """
    kind, place = type(fault).__name__, place_of(fault)
    text = str(fault) if quoted else "its text is not shown, since it may quote a secret"
    if not _TRACEBACKS.take(f"{kind} {place}"):
        _log.error(Log.CONTEXT_CRASHED, error=f"{kind}: {text}", place=place, traceback=frames_of(fault))
    where = "" if place is None else f" ({place})"
    return Unreadable(ParkingCode.CRASHED, f"the context's code raised {kind}: {text}{where}")
