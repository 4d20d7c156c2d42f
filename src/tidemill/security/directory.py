"""The principals of a deployment as one process knows them: in memory, and read again as they are needed.

A revocation is in force everywhere within 5 s: what is older than `MAX_AGE_S` is read again before it is used, which
takes at most `DEADLINE_S`. While the database is unavailable, the last state stays in force for `OUTAGE_S`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from tidemill.domain.errors import RequestRefused, TransientError
from tidemill.domain.request_codes import RequestCode
from tidemill.runtime.clock import Clock
from tidemill.runtime.shared_call import SharedCall
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.security.ports import PrincipalReader
from tidemill.security.principal_rows import KnownPrincipals, PrincipalState

_log = logger(__name__)

REFRESH_S: Final = 2.0
MAX_AGE_S: Final = 4.0
DEADLINE_S: Final = 1.0
OUTAGE_S: Final = 60.0
RETRY_S: Final = 1.0


class PrincipalDirectory:
    """Holds principals and grants in memory. It reads when it is asked, so it needs no service of its own."""

    def __init__(self, reader: PrincipalReader, clock: Clock, *, deadline_s: float = DEADLINE_S) -> None:
        """`deadline_s`: after how many seconds a question to the database is given up."""
        self._reader = reader
        self._clock = clock
        self._deadline_s = deadline_s
        self._known: KnownPrincipals | None = None
        self._version: str | None = None
        self._read_at_s = float("-inf")
        self._failed_at_s = float("-inf")
        self._is_failing = False
        self._reading = SharedCall(self._read)

    async def current(self) -> KnownPrincipals:
        """Return what is in force.

        Raises: `RequestRefused` with `DATABASE_AWAY` if it was not read for `OUTAGE_S`, or never.
        """
        now_s = self._clock.monotonic_s()
        age_s = now_s - self._read_at_s
        if age_s > REFRESH_S:
            since_failure_s = now_s - self._failed_at_s
            if since_failure_s >= RETRY_S:
                self._reading.begin()
            # In an outage a request does not wait for each attempt, but those after a pause do: it may be over.
            if age_s > MAX_AGE_S and not self._was_tried_lately(since_failure_s, age_s):
                await self._reading.wait()
        return self._in_force()

    async def close(self) -> None:
        """End a question that is under way."""
        await self._reading.close()

    def _was_tried_lately(self, since_failure_s: float, age_s: float) -> bool:
        return since_failure_s < 2 * RETRY_S and age_s <= OUTAGE_S

    def _in_force(self) -> KnownPrincipals:
        if self._known is None or self._clock.monotonic_s() - self._read_at_s > OUTAGE_S:
            raise RequestRefused(
                RequestCode.DATABASE_AWAY,
                "who may do what cannot be read, since the database is not available",
                retry_after_s=RETRY_S,
            )
        return self._known

    async def _read(self) -> None:
        began_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self._deadline_s):
                state = await self._reader.changed_since(self._version)
        except (TransientError, TimeoutError) as error:
            self._note_failure(error)
            return
        self._take(state, began_s)

    def _take(self, state: PrincipalState | None, began_s: float) -> None:
        if state is not None:
            self._known = KnownPrincipals.of(state)
            self._version = state.version
        self._read_at_s = began_s
        self._failed_at_s = float("-inf")
        if self._is_failing:
            self._is_failing = False
            _log.warning(Log.PRINCIPALS_READ_AGAIN)

    def _note_failure(self, error: BaseException) -> None:
        self._failed_at_s = self._clock.monotonic_s()
        if not self._is_failing:
            self._is_failing = True
            _log.error(
                Log.PRINCIPALS_NOT_READ, reason=str(error) or type(error).__name__, in_force_s=OUTAGE_S
            )
