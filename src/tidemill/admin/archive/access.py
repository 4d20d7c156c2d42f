"""An operator's access to the archive: its database, its policies, and its lane's present claim."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol, TypeVar

from tidemill.admin.archive.ports import ArchiveInspector, RestoreStore
from tidemill.admin.lanes.comparison import LaneComparison
from tidemill.admin.lanes.states import claim_of, streams_as_created
from tidemill.admin.ports import LaneReader
from tidemill.admin.reasons import reason_of
from tidemill.admin.rows import LaneState
from tidemill.catalog.streams import ContextStream
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import SliceId
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import Fenced, LaneHalted, TransientError, UsageError
from tidemill.domain.lane import Claim
from tidemill.domain.rejections import HaltCode
from tidemill.outbox.ports import ForeignTail
from tidemill.retention.operator_actions import Operator
from tidemill.retention.planner import Facts
from tidemill.retention.policies import without_quiet
from tidemill.retention.ports import Busy, Overtaken

T = TypeVar("T")

Halt = Callable[[Claim, str, str], Awaitable[None]]
"""Records that a lane is halted: its claim, a code, the evidence."""

_TRIES: Final = 6


@dataclass(frozen=True, kw_only=True)
class ArchiveAccess:
    """An operator's access to the archive. `policies`: by table. `as_of`: the time at which ages are computed, if set.

    `announcing`: the action publishes an event. `pause_s`: after the first conflict with another transaction.
    """

    policies: Mapping[str, Retention]
    as_of: datetime | None
    stream: ContextStream
    store: ArchiveInspector
    restores: RestoreStore
    lanes: LaneReader
    comparison: LaneComparison
    halt: Halt
    announcing: bool = False
    pause_s: float = 0.5

    def policy(self, table: str) -> Retention:
        """Return the policy of a table, named with or without its schema. Raises `UsageError`."""
        named = [name for name in self.policies if table in (name, name.partition(".")[2])]
        if len(named) != 1:
            raise UsageError(
                f"table {table!r} has no retention",
                code=ErrorCode.UNKNOWN_NAME,
                name=table,
                choices=tuple(self.policies),
            )
        return self.policies[named[0]]

    def chosen(self, table: str | None) -> list[Retention]:
        """Return the policy of a table, or all of them. Raises `UsageError`."""
        return list(self.policies.values()) if table is None else [self.policy(table)]

    def rehearsed(self, as_of: datetime | None) -> ArchiveAccess:
        """Return the policy with ages computed at `as_of`, if that is given; then nothing waits for a quiet period."""
        if as_of is None:
            return self
        policies = {name: without_quiet(policy) for name, policy in self.policies.items()}
        return replace(self, as_of=as_of, policies=policies)

    async def lane(self) -> LaneState:
        """Return the archive's lane as it is now. Raises `ContractError` if it was never created."""
        streams = {self.stream.stream.aggregate: self.stream}
        ((_, lanes),) = (await streams_as_created(streams, self.lanes)).values()
        return lanes[0]

    async def claim(self) -> Claim:
        """Return the claim under which the archive's lane is processed now; its row lock excludes other writers."""
        return claim_of(await self.lane())

    async def order(self, work: Callable[[Claim], Awaitable[T]]) -> T:
        """Do something under the lane's present claim; again if another transaction interfered.

        Before an event is published the lane is compared with its topics: a restored database knows nothing of
        that, and the process that serves the lane may not have looked yet.

        Raises:
            LaneHalted: it would publish, and the lane is halted, or contradicts its topics, and is halted now.
            TransientError: other transactions interfered each time.
        """
        for attempt in range(1, _TRIES + 1):
            state = await self.lane()
            if self.announcing:
                await self._compare(state)
            try:
                return await work(claim_of(state))
            except (Busy, Fenced, Overtaken) as error:
                if attempt == _TRIES:
                    raise TransientError(f"{error}; nothing was changed: try again") from error
            await asyncio.sleep(self.pause_s * attempt)
        raise AssertionError("the last try returns or raises")

    async def _compare(self, state: LaneState) -> None:
        if state.halt_code is not None:
            raise LaneHalted(state.lane, state.halt_code, state.halt_detail or "", name=state.name)
        try:
            await self.comparison.compare(state)
        except (LaneHalted, ForeignTail) as found:
            code, detail = (
                (found.code, found.detail)
                if isinstance(found, LaneHalted)
                else (HaltCode.FOREIGN_TAIL, str(found))
            )
            await self.halt(claim_of(state), code, detail)
            raise LaneHalted(state.lane, code, detail, name=state.name) from found


class OpenAccess(Protocol):
    """Opens the archive with the login of retention."""

    def __call__(self, *, announcing: bool = False) -> AbstractAsyncContextManager[ArchiveAccess]:
        """Open it. `announcing`: the action publishes an event. Raises `UsageError` if no table has a retention."""
        ...


def operator(reason: str) -> Operator:
    """Return the operator for the trail. Raises `UsageError` for an empty reason."""
    return Operator(getpass.getuser(), reason_of(reason))


def slice_at(facts: Facts, at: datetime, generation: int | None) -> SliceId:
    """Return the slice of the range that contains `at`; without a generation, the only one there is.

    Raises:
        UsageError: there is none, or more than one.
    """
    found = [each.id for each in facts.slices if each.id.start <= at < each.id.end]
    chosen = [each for each in found if generation in (None, each.generation)]
    if not chosen:
        raise UsageError(
            f"the registry has no slice of {facts.table} with {at.isoformat()}"
            + (f" and generation {generation}" if generation else ""),
            code=ErrorCode.UNKNOWN_SLICE,
            table=facts.table,
            time=at.isoformat(),
            generation=generation,
        )
    if len(chosen) > 1:
        known = ", ".join(
            f"{each.id.generation} ({each.state})" for each in facts.slices if each.id in chosen
        )
        raise UsageError(f"that range has several generations: choose one by --generation; they are {known}")
    return chosen[0]
