"""The archive as a stream: confirmations in, requests out, run by the same engine as every other one.

Its one lane has one owner, the process that serves retention, which also writes to it what it decides itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from tidemill.commands.decide_fold import HandlerResult
from tidemill.commands.ports import LaneFollower, Locked, SharedTransaction
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent, archival_topics
from tidemill.domain.archive.policy import Retention
from tidemill.domain.context import CommandSpec, Context
from tidemill.domain.lane import Claim
from tidemill.domain.stream import Stream
from tidemill.retention.confirmations import CODES, fold
from tidemill.retention.ports import RequestedSlices
from tidemill.retention.slices import AnswerLimits

AGGREGATE: Final = "archival"
EVENT: Final = "tidemill.archival.ArchivalEvent"
CONFIRMATION: Final = "tidemill.archival.ArchivalConfirmation"

context: Final = Context(
    aggregate=AGGREGATE,
    key=lambda confirmation: confirmation.event_id,
    commands=(CommandSpec(ArchivalConfirmation),),
    keyed=False,
    partitions=1,
    codes=CODES,
)
"""The archive as far as it is like a context: foreign archivers cannot know our keys, so there is one lane."""


def archive_stream(prefix: str) -> Stream:
    """Return the archive's stream, its topics named with `prefix`."""
    stream = Stream.of(context, prefix=prefix)
    return replace(stream, topics=archival_topics(prefix=prefix), events={EVENT: ArchivalEvent})


OpenSlices = Callable[[Any], RequestedSlices]
"""Returns the slices in a batch's transaction: see `SharedTransaction.join`."""


class ConfirmationHandler:
    """How confirmations are decided: each is folded over the slices of its request, in the batch's transaction."""

    def __init__(self, policies: Mapping[str, Retention], open_slices: OpenSlices) -> None:
        """`policies`: by `schema.table`."""
        self._policies = policies
        self._open_slices = open_slices

    async def apply(
        self, work: SharedTransaction, arrivals: Sequence[IncomingCommand], locked: Locked
    ) -> list[HandlerResult]:
        """Store what each confirmation does, one after the other: the later ones see the earlier ones' steps."""
        slices = work.join(self._open_slices)
        return [await self._one(slices, each.command, locked.now) for each in arrivals]

    async def _one(self, registry: RequestedSlices, confirmation: Any, at: datetime) -> HandlerResult:
        assert isinstance(confirmation, ArchivalConfirmation), "the stream takes no other command"
        slices = await registry.of_event(confirmation.event_id)
        policy = self._policies.get(slices[0].id.table) if slices else None
        folded = fold(confirmation, slices, at, AnswerLimits.of(policy) if policy else AnswerLimits())
        for step in folded.steps:
            await registry.store(step)
        return folded.rejected if folded.rejected is not None else []


@dataclass
class ArchiveLane:
    """The archive's lane, as its relay follows it: under which claim, and whom to wake.

    `news`: told whenever something was committed, and when the lane is ours: who looks before a commit sees nothing.
    """

    news: Callable[[], None] = lambda: None
    claim: Claim | None = None
    _taken: dict[int, Claim] = field(default_factory=dict, repr=False)
    _relays: LaneFollower | None = field(default=None, repr=False)

    def before(self, relays: LaneFollower) -> ArchiveLane:
        """Stand before the relays: what they are told, this hears too."""
        self._relays = relays
        self.claim = None
        return self

    async def take(self, claims: Sequence[Claim]) -> None:
        """Follow these claims from now on."""
        self._taken |= {claim.lane.id: claim for claim in claims}
        await self._follower.take(claims)

    async def compared(self, lane_id: int) -> None:
        """Return when the lane was compared."""
        await self._follower.compared(lane_id)

    def begun(self, lanes: Sequence[int]) -> None:
        """Work the lane from now on."""
        self._follower.begun(lanes)
        for lane_id in lanes:
            self.claim = self._taken.get(lane_id)
        self.news()

    async def drop(self, lanes: Sequence[int]) -> None:
        """Let go of lanes."""
        for lane_id in lanes:
            self._taken.pop(lane_id, None)
        if self.claim is not None and self.claim.lane.id in lanes:
            self.claim = None
        await self._follower.drop(lanes)

    def wake(self, lanes: Sequence[int]) -> None:
        """Say that something was committed."""
        self._follower.wake(lanes)
        self.news()

    @property
    def _follower(self) -> LaneFollower:
        assert self._relays is not None, "the service of this lane was made"
        return self._relays
