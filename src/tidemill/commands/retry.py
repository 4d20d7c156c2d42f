"""What an intake reports of retries."""

from __future__ import annotations

from tidemill.runtime.outages import Over
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import BATCH_RETRIES

_log = logger(__name__)


class BatchRetries:
    """The `RetryListener` of one intake. `aggregate` labels what is counted and logged."""

    def __init__(self, aggregate: str) -> None:
        self._aggregate = aggregate

    def failed(self, error: BaseException, *, begins: bool) -> None:
        """Count an attempt that failed, and log the first one of an outage."""
        BATCH_RETRIES.labels(self._aggregate, type(error).__name__).inc()
        if begins:
            _log.warning(Log.BATCH_RETRIED, aggregate=self._aggregate, reason=str(error))

    def recovered(self, outage: Over) -> None:
        """Log that an outage is over."""
        _log.info(
            Log.BATCH_RECOVERED,
            aggregate=self._aggregate,
            attempts=outage.attempts,
            seconds=outage.seconds,
        )
