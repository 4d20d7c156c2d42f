"""Rate limits by key, in this process: a bucket of tokens for each key, refilled as time goes by."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.runtime.clock import Clock


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class RateLimiter:
    """Lets each key do something `burst` times at once, and then once every `every_s` seconds.

    Memory is bounded: beyond `max_keys` keys that are not at rest, further ones share one bucket, so that no flood of
    made-up keys frees the bucket of another one. Several processes limit each by itself.
    """

    def __init__(
        self, clock: Clock, *, burst: int = 5, every_s: float = 60.0, max_keys: int = 10_000
    ) -> None:
        """Every bucket is full."""
        self._clock = clock
        self._burst = burst
        self._every_s = every_s
        self._max_keys = max_keys
        self._buckets: dict[str, _Bucket] = {}
        self._shared = _Bucket(burst, clock.monotonic_s())

    def take(self, key: str) -> float:
        """Take a token of a key; return 0 if there was one, else after how many seconds there will be."""
        bucket = self._bucket(key)
        self._refill(bucket)
        if bucket.tokens >= 1.0:
            bucket.tokens -= 1.0
            return 0.0
        return (1.0 - bucket.tokens) * self._every_s

    def reset(self, key: str) -> None:
        """Fill the bucket of a key, as after a success."""
        self._buckets.pop(key, None)

    def _bucket(self, key: str) -> _Bucket:
        if key not in self._buckets:
            if len(self._buckets) >= self._max_keys:
                self._drop_full()
            if len(self._buckets) >= self._max_keys:
                return self._shared
            self._buckets[key] = _Bucket(self._burst, self._clock.monotonic_s())
        return self._buckets[key]

    def _drop_full(self) -> None:
        for bucket in self._buckets.values():
            self._refill(bucket)
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket.tokens < self._burst}

    def _refill(self, bucket: _Bucket) -> None:
        now_s = self._clock.monotonic_s()
        bucket.tokens = min(float(self._burst), bucket.tokens + (now_s - bucket.at_s) / self._every_s)
        bucket.at_s = now_s
