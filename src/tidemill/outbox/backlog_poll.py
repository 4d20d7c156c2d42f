"""The look for rows of the outbox that were not announced: one statement for all streams of a process.

Nearly always there are none, so that the look itself is what an idle process does. It is often repeated while one finds
some, else once a second. It runs as long as a stream follows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from tidemill.domain.errors import TransientError
from tidemill.outbox.ports import OutboxReader
from tidemill.runtime.pauses import stopped_within

FIRST_S: Final = 0.02
MAX_S: Final = 1.0


class PolledLanes(Protocol):
    """The lanes of a stream that are asked about. No call may raise `TransientError`."""

    async def question(self) -> Mapping[int, int] | None:
        """Return lane (id) -> how far it is published; None if the database does not say."""
        ...

    def answer(self, asked: Mapping[int, int], newest: Mapping[int, int]) -> bool:
        """Take the newest positions of lanes that have more than was `asked`; return whether one was not announced."""
        ...

    def put_off(self, error: TransientError) -> None:
        """Note that the database did not answer; it is asked again."""
        ...


class BacklogPoll:
    """Asks for the lanes of all streams that follow it."""

    def __init__(self, *, first_s: float = FIRST_S, max_s: float = MAX_S) -> None:
        """`first_s`: the pause while something is found, which doubles up to `max_s` while nothing is."""
        self._first_s = first_s
        self._max_s = max_s
        self._reader: OutboxReader | None = None
        self._followers: list[PolledLanes] = []
        self._joined = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    async def follow(self, lanes: PolledLanes, reader: OutboxReader, stopping: asyncio.Event) -> None:
        """Ask for these lanes, too, until `stopping`. Raises what ends the poll for all who follow it.

        `reader`: of the one database that all of them are in.
        """
        self._followers.append(lanes)
        self._reader = reader
        self._joined.set()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="backlog poll")
        asking, stopped = self._asking, asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({asking, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not stopped.done():
                asking.result()
        finally:
            stopped.cancel()
            self._followers.remove(lanes)
            if not self._followers:
                asking.cancel()
                self._asking = None

    async def look(self) -> bool:
        """Ask once; return whether rows were found that were not announced."""
        questions = [(lanes, await lanes.question()) for lanes in list(self._followers)]
        asked = [(lanes, part) for lanes, part in questions if part is not None]
        published = {lane_id: position for _, part in asked for lane_id, position in part.items()}
        try:
            newest = await self._reader.pending(published) if self._reader and published else {}
        except TransientError as error:
            for lanes, _ in asked:
                lanes.put_off(error)
            return False
        missed = [lanes.answer(part, newest) for lanes, part in asked if lanes in self._followers]
        return any(missed)

    async def _ask(self) -> None:
        pause_s = self._first_s
        while True:
            if await stopped_within(self._joined, pause_s):
                self._joined.clear()
                pause_s = self._first_s
                continue
            pause_s = self._first_s if await self.look() else min(self._max_s, 2 * pause_s)
