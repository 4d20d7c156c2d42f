"""Several conditions for one service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.runtime.service import Gate


class AllOf:
    """A `Gate` that is open while all of its gates are; the first one that is shut gives the reason."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        """`gates`: at least one, in the order in which they are asked."""
        self._gates = gates
        self._shut = gates[0]

    async def look(self) -> bool:
        """See `Gate`."""
        for gate in self._gates:
            if not await gate.look():
                self._shut = gate
                return False
        return True

    def blame(self, error: BaseException) -> bool:
        """See `Gate`."""
        for gate in self._gates:
            if gate.blame(error):
                self._shut = gate
                return True
        return False

    def standing(self) -> Mapping[str, Any]:
        """See `Gate`."""
        return self._shut.standing()
