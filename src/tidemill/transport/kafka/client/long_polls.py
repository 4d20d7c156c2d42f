"""How long the fetch requests of a consumer wait at the broker: longer once nothing has arrived for a while.

A request is answered as soon as there are records, so a longer one delays none of them; it only makes an idle consumer
cheaper, for which the client writes and reads a list of all partitions with every request. What it would delay is a
partition that starts to flow meanwhile, since the broker answers the requests of a connection one after the other. So
fetches have connections of their own, and a long one is given up when something changes.

Uses aiokafka's fetcher and client internals, since no public method changes a consumer that was started.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from aiokafka.protocol.fetch import FetchRequest

LONG_S: Final = 5.0
"""Below the time-out of a request, which a silent broker must not outlast."""

QUIET_S: Final = 10.0

LOOK_S: Final = 1.0
"""How long a quiet consumer's reader waits before it looks whether anything else is to be done."""

_FETCHES: Final = "fetches"


class LongPolls:
    """The fetch requests of a started consumer."""

    def __init__(self, consumer: Any, *, now_s: Callable[[], float] = monotonic) -> None:
        """Requests wait as long as the consumer was told to, until it has been quiet for `QUIET_S`."""
        self._client = consumer._client
        self._fetcher = consumer._fetcher
        self._now_s = now_s
        self._quiet_since_s = now_s()
        self._short = (self._fetcher._fetch_max_wait_ms, self._fetcher._fetcher_timeout)
        self._is_long = False
        if not isinstance(
            self._fetcher._client, _FetchConnections
        ):  # lookups read again and again with one consumer
            self._fetcher._client = _FetchConnections(consumer._client)

    @property
    def wait_s(self) -> float | None:
        """Return how long a quiet consumer's reader may wait; None while it is not quiet."""
        return LOOK_S if self._is_long else None

    def nothing_came(self) -> None:
        """Wait longer from the next request on, if that has been so for a while."""
        if not self._is_long and self._now_s() - self._quiet_since_s >= QUIET_S:
            self._is_long = True
            self._set(int(LONG_S * 1000), LONG_S)

    def shorten(self) -> None:
        """Something came, or partitions are about to flow: give up a long request, so that the next one holds them."""
        self._quiet_since_s = self._now_s()
        if self._is_long:
            self._is_long = False
            self._set(*self._short)
            self._give_up()

    def _set(self, max_wait_ms: int, look_again_s: float) -> None:
        self._fetcher._fetch_max_wait_ms = max_wait_ms
        self._fetcher._fetcher_timeout = look_again_s

    def _give_up(self) -> None:
        for (_, group), connection in tuple(self._client._conns.items()):
            if group == _FETCHES:
                for _, _, answer in connection._requests:
                    answer.cancel()  # to the client this is a fetch that was not needed; an error would be logged
                connection.close()


class _FetchConnections:
    """The client, but that fetch requests do not share connections with others, which would wait for their answers."""

    def __init__(self, client: Any) -> None:
        self._shared = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shared, name)

    async def send(self, node_id: Any, request: Any, **options: Any) -> Any:
        if isinstance(request, FetchRequest):
            options["group"] = _FETCHES
        return await self._shared.send(node_id, request, **options)
