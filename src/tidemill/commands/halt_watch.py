"""The look for halts that a relay or an operator recorded: one statement for all streams of a process.

Nearly always there are none, so that the look itself is what an idle process does. Each stream looks every few seconds;
the first of them asks for all, and the others have their answer already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from tidemill.commands.ports import CommandStore
from tidemill.domain.lane import Claim


class WatchedClaims(NamedTuple):
    """The claims of lanes that may have to stop, and of those that are halted and may go on."""

    flowing: Sequence[Claim] = ()
    standing: Sequence[Claim] = ()

    @property
    def lane_ids(self) -> list[int]:
        """Return the lanes of both."""
        return [claim.lane.id for claim in (*self.flowing, *self.standing)]


class WatchedLanes(Protocol):
    """The lanes of a stream."""

    def watched(self) -> WatchedClaims:
        """Return what is asked about."""
        ...

    def take_halts(self, watched: WatchedClaims, halted: Mapping[int, tuple[str, str]]) -> None:
        """Act on the halts (lane id -> code, evidence) that there were when these claims were asked about."""
        ...


class HaltWatch:
    """Asks for the lanes of all streams that follow it."""

    def __init__(self) -> None:
        self._is_answered: dict[WatchedLanes, bool] = {}

    @contextmanager
    def following(self, lanes: WatchedLanes) -> Iterator[None]:
        """Ask for these lanes, too, while the block runs."""
        self._is_answered[lanes] = False
        try:
            yield
        finally:
            del self._is_answered[lanes]

    async def look(self, lanes: WatchedLanes, store: CommandStore) -> None:
        """Ask for all lanes, unless another stream has done so since these looked last.

        `store`: of the one database that all of them are in. Raises `TransientError`: then whoever looks next asks.
        """
        if self._is_answered.get(lanes):
            self._is_answered[lanes] = False
            return
        questions = [(other, other.watched()) for other in {lanes: None, **self._is_answered}]
        asked = [lane_id for _, watched in questions for lane_id in watched.lane_ids]
        halted = await store.halted(asked) if asked else {}
        for other, watched in questions:
            if other is lanes or other in self._is_answered:
                other.take_halts(watched, halted)
            if other is not lanes and other in self._is_answered:
                self._is_answered[other] = True
