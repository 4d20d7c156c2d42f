"""How a projector waits for an unavailable server, and reports it."""

from __future__ import annotations

from tidemill.domain.errors import TransientError
from tidemill.projections.ports import CheckpointMoved
from tidemill.runtime.outages import Over
from tidemill.runtime.retry import Retrier
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger

_log = logger(__name__)


def projector_retrier(*, limit_s: float | None = None) -> Retrier:
    """Return what retries transient failures; another writer of the read model is not one."""
    return Retrier(_ProjectorRetries(), is_passing=_passes, limit_s=limit_s)


class _ProjectorRetries:
    def failed(self, error: BaseException, *, begins: bool) -> None:
        if begins:
            _log.warning(Log.PROJECTOR_WAITS, reason=str(error))

    def recovered(self, outage: Over) -> None:
        _log.info(Log.PROJECTOR_RECOVERED, attempts=outage.attempts, seconds=outage.seconds)


def _passes(error: BaseException) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, CheckpointMoved)
