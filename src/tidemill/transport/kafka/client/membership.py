"""Whether the group still answers a member.

The client talks to the group in its own tasks, and does not report it if they make no progress. Seen once, after a
broker was killed and started again: two members in one process never sent another heartbeat (they waited for a task
that had ended, see `start.Connection.send`). They continued to read, competed for lanes with the members that
the group had assigned them to, and the other lanes were idle. Whatever the cause: if a member's group has not
answered it for longer than any rebalance takes, although the broker answers, it is given up, and the reader makes
a new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final

from tidemill.domain.errors import TransientError, Unavailable
from tidemill.runtime.pauses import every

MAX_SILENCE_S: Final = 60.0
"""A rebalance takes up to 30 s, and releasing lanes before it up to 12 s."""


class Membership:
    """Watches a started consumer from now until `close`. `ask`: a request to the broker, over other connections.

    `max_silence_s`: how long the group may be silent. Raises nothing for an unavailable broker: then everything waits.
    """

    def __init__(
        self, consumer: Any, *, ask: Callable[[], Awaitable[object]], max_silence_s: float = MAX_SILENCE_S
    ) -> None:
        self._ask = ask
        self._max_silence_s = max_silence_s
        self._look_s = max_silence_s / 6
        self._heard_s = monotonic()
        self._listen_to(consumer._coordinator)
        self._watching = asyncio.create_task(every(self._look_s, self._look), name="membership")

    def check(self) -> None:
        """Raise what ended the watch: `Unavailable` if the group no longer answers."""
        if self._watching.done():
            self._watching.result()

    async def close(self) -> None:
        """Stop watching."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    def _listen_to(self, coordinator: Any) -> None:
        """Record each answer to a request of the member, refusals included. The client does not report them."""
        send = coordinator._send_req

        async def heard(request: Any) -> Any:
            answer = await send(request)
            self._heard_s = monotonic()
            return answer

        coordinator._send_req = heard

    async def _look(self) -> None:
        if not self._is_silent() or not await self._answers():
            return
        await asyncio.sleep(self._look_s)  # the broker may be back only now, and the member about to be heard
        if self._is_silent():  # an answer may have come during the question too, behind an outage
            raise Unavailable("kafka", self._silence())

    def _is_silent(self) -> bool:
        return monotonic() - self._heard_s >= self._max_silence_s

    def _silence(self) -> str:
        silent_s = monotonic() - self._heard_s
        return (
            f"the group has not answered this member for {silent_s:.0f} s, but the broker does: joining again"
        )

    async def _answers(self) -> bool:
        try:
            await self._ask()
        except TransientError:
            return False
        return True
