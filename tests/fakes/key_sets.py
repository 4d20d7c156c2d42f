"""A key set in memory: obeys the same conformance suite as the real ones."""

from __future__ import annotations

from tidemill.domain.errors import Unavailable


class MemoryKeySet:
    """A `KeySetSource`. `content`: None makes it unavailable. `asked`: how often it was read."""

    def __init__(self, content: bytes | None = b"", *, max_bytes: int = 262_144) -> None:
        self.content = content
        self.asked = 0
        self._max_bytes = max_bytes

    async def key_set(self) -> bytes:
        self.asked += 1
        if self.content is None or len(self.content) > self._max_bytes:
            raise Unavailable("key set", "switched off by the test, or too large")
        return self.content

    async def close(self) -> None:
        """Nothing is open."""
