"""Workers: how many batches one process has in the database at once, over all of its streams.

    ready lanes -> a turn (waits for a worker) -> a batch -> a try -> done
                                                   try again <- the worker is given back while it waits

Waiting batches are served in order of arrival, and an intake waits with one new batch at a time: so streams take turns,
however much each of them has. A delay of one stream (a lock, a slow statement) leaves workers to the
others: of several streams none may have all workers, and batches that are tried again have at most half of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tidemill.domain.errors import TransientError


class Workers:
    """The workers of one process."""

    def __init__(self, count: int, *, streams: int = 1) -> None:
        """`count`: how many there are. `streams`: how many intakes share them."""
        self._count = count
        self._max_of_a_team = count if streams == 1 else max(1, count - 1)
        self._max_repeats = max(1, count // 2)
        self._busy = 0
        self._busy_again = 0
        self._wishes: list[_Wish] = []

    def team(self) -> Team:
        """Return the share of an intake that starts."""
        return Team(self)

    def available(self, team: Team) -> int:
        """Return how many more workers a team would get just now."""
        return max(0, min(self._count - self._busy, self._max_of_a_team - team.busy))

    async def get(self, team: Team, *, again: bool) -> bool:
        """Wait for a worker; False if the team is closed, unless one is free at once."""
        wish = _Wish(team, again)
        self._wishes.append(wish)
        self._serve()
        if team.closed and not wish.answer.done():
            self._refuse(wish)
        try:
            return await wish.answer
        except asyncio.CancelledError:
            if wish in self._wishes:
                self._wishes.remove(wish)
            elif not wish.answer.cancelled() and wish.answer.result():
                self.give_back(team, again=again)
            raise

    def give_back(self, team: Team, *, again: bool) -> None:
        """Record that a worker is free."""
        self._busy -= 1
        self._busy_again -= again
        team.busy -= 1
        self._serve()

    def refuse_all(self, team: Team) -> None:
        """End the waiting of a team."""
        for wish in [wish for wish in self._wishes if wish.team is team]:
            self._refuse(wish)

    def _refuse(self, wish: _Wish) -> None:
        self._wishes.remove(wish)
        wish.answer.set_result(False)

    def _serve(self) -> None:
        """Give workers to those that wait, in order of arrival, as long as there are any."""
        for wish in list(self._wishes):
            if not self.available(wish.team) or (wish.again and self._busy_again >= self._max_repeats):
                continue
            self._wishes.remove(wish)
            self._busy += 1
            self._busy_again += wish.again
            wish.team.busy += 1
            wish.answer.set_result(True)


@dataclass(eq=False)
class _Wish:
    team: Team
    again: bool
    answer: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Team:
    """One intake's share of the workers. `busy`: how many work for it."""

    def __init__(self, workers: Workers) -> None:
        """Use `Workers.team`."""
        self.busy = 0
        self.closed = False
        self._workers = workers

    async def turn(self) -> Turn | None:
        """Wait for a worker for a new batch; None once the team is closed and none is free."""
        return Turn(self._workers, self) if await self._workers.get(self, again=False) else None

    def close(self) -> None:
        """Stop waiting for workers: what is in flight may end, the rest is left."""
        self.closed = True
        self._workers.refuse_all(self)


class Turn:
    """A worker for one batch, held by every try of it: `async with turn`. Made with a worker for the first try.

    `share`: how many workers there are for the lanes that are ready, this one among them.
    """

    def __init__(self, workers: Workers, team: Team) -> None:
        """Use `Team.turn`."""
        self.share = 1 + workers.available(team)
        self._workers = workers
        self._team = team
        self._again = False
        self._held = True

    async def __aenter__(self) -> Self:
        """Have a worker for a try. Raises `TransientError` if the team was closed, and none is free."""
        if not self._held:
            if not await self._workers.get(self._team, again=True):
                raise TransientError("no worker is free, and the process is about to stop")
            self._held = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Give the worker back, if it was not yet."""
        if self._held:
            self._held = False
            self._workers.give_back(self._team, again=self._again)
            self._again = True
