"""Whether queries of a shape use an index: the plan of a shape is looked at once, beside the queries."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from tidemill.admin.service.ports import PlanReader
from tidemill.domain.errors import TidemillError, TransientError
from tidemill.runtime.periodic import Periodic

MAX_PATTERNS: Final = 1_000
MAX_PENDING: Final = 100
LOOK_EVERY_S: Final = 5.0


class PlanSamples:
    """The shapes of queries that were seen, and of every `every`-th one whether its plan uses an index."""

    def __init__(self, *, every: int = 1) -> None:
        """Nothing was seen. Past `MAX_PATTERNS` the oldest is forgotten, and would be looked at again."""
        self._every = every
        self._distinct = 0
        self._known: OrderedDict[str, bool | None] = OrderedDict()
        self._pending: OrderedDict[str, str] = OrderedDict()

    def see(self, pattern: str, sql: str) -> None:
        """Remember a shape; `sql` has parameters in place of values."""
        if pattern in self._known:
            return
        self._known[pattern] = None
        if len(self._known) > MAX_PATTERNS:
            self._known.popitem(last=False)
        if self._distinct % self._every == 0 and len(self._pending) < MAX_PENDING:
            self._pending[pattern] = sql
        self._distinct += 1

    def index_used(self, pattern: str) -> bool | None:
        """Return whether the plan of a shape uses an index, None if it was not looked at."""
        return self._known.get(pattern)

    def next(self) -> tuple[str, str] | None:
        """Return pattern and SQL of the shape to look at next, None if there is none."""
        return next(iter(self._pending.items()), None)

    def settle(self, pattern: str, *, index_used: bool | None) -> None:
        """Take a shape off the list, with what its plan says."""
        self._pending.pop(pattern, None)
        if pattern in self._known:
            self._known[pattern] = index_used


class PlanSampler(Periodic):
    """A `Service` that looks at plans, one at a time. It never runs a query."""

    def __init__(self, samples: PlanSamples, plans: PlanReader, *, every_s: float = LOOK_EVERY_S) -> None:
        """Nothing is asked before `run`."""
        super().__init__(every_s=every_s)
        self._samples = samples
        self._plans = plans

    async def look(self) -> bool:
        """Look at the plan of one shape. Raises `TransientError`: then it is looked at later."""
        due = self._samples.next()
        if due is None:
            return False
        pattern, sql = due
        try:
            self._samples.settle(pattern, index_used=await self._plans.uses_index(sql))
        except TransientError:
            raise
        except TidemillError:
            self._samples.settle(
                pattern, index_used=None
            )  # its table has changed: it is no question any more
        return self._samples.next() is not None
