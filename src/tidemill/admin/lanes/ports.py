"""The ports of decisions about lanes. Every call may raise `Unavailable`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from tidemill.admin.lane_results import Cleared, Parked, Reconciled, Seen, Skipped, TopicsEnd
from tidemill.commands.ports import CommandSource
from tidemill.domain.lane import Lane
from tidemill.outbox.common_history import Agreement, PointReader
from tidemill.outbox.ports import LaneEnd, Published


class LaneStore(PointReader, Protocol):
    """An operator's changes of a lane: each call is one transaction under the lane's lock.

    It stores the reason in the ledger, and fences a process that still has the old state.
    """

    async def resume(self, lane_id: int) -> Cleared | None:
        """Lift a lane's halt; None if there is none. Its owner claims it again, and checks it again."""
        ...

    async def park(self, lane_id: int, reason: str) -> Parked | None:
        """End a lane's wait for a newer version, and store the reason; None if it does not wait.

        The lane's owner parks the command that it waits for; the epoch stays, since the owner's state is valid.
        """
        ...

    async def skip(self, lane_id: int, to_offset: int, reason: str, *, seen: Seen) -> Skipped:
        """Resume a halted lane at `to_offset`, whatever is before it.

        `seen`: the state that allowed `to_offset`. `UsageError` if the lane is not halted, or was changed since.
        """
        ...

    async def accept(self, lane_id: int, offsets: Mapping[str, int], reason: str, *, seen: Seen) -> Cleared:
        """Lift a halt, and accept records of another program in the lane's topics: topic -> up to which offset.

        `seen`: the state when they were found. `UsageError` if the lane is not halted, or was changed since.
        """
        ...

    async def reconcile(
        self, lane_id: int, topics: TopicsEnd, agreed: Agreement, reason: str, *, seen: Seen
    ) -> Reconciled:
        """Continue a halted lane's history after the end of its topics, on a raised timeline.

        `agreed`: up to where topics and log are equal. What the topics hold after it is withdrawn; what the log
        has after it is sent with numbers after the topics', or with its own if nothing was withdrawn. That was found
        out before the lane was locked: `seen`. `UsageError` if the lane is not halted, or was changed since.
        """
        ...


class OutboxHistory(Protocol):
    """How far the outbox was published, and what it remembers."""

    async def published(self, lane_id: int) -> Published:
        """Return the stored hint of how far the lane was published."""
        ...

    async def events_at(self, lane_id: int, position: int) -> dict[int, str] | None:
        """Return sequence -> event id of the events at `position`; None if the outbox does not hold it (any more)."""
        ...

    async def end_with_history(self, lane_id: int, end: LaneEnd) -> LaneEnd:
        """Return `end` with the lane's forks, and what an operator has accepted."""
        ...


class TopicHistory(Protocol):
    """The history in the topics of one lane."""

    async def ends(self) -> TopicsEnd:
        """Return how the topics end. Raises `ForeignTail`."""
        ...

    async def foreign(self) -> dict[str, int]:
        """Return topic -> the offset of its last record, for topics where that is of another program."""
        ...

    async def chain_at(self, sequence: int) -> int | None:
        """Return what `tm_chain` says of the event with this number; None if there is none."""
        ...


class LaneTopics(Protocol):
    """Opens the topics of single lanes. May raise `UsageError`: Kafka's address is not set."""

    def commands(self, topic: str) -> CommandSource:
        """Return a source of a command topic, not started: to be asked, and closed."""
        ...

    def history(self, lane: Lane, accepted: Mapping[str, int]) -> AbstractAsyncContextManager[TopicHistory]:
        """Open the history in a lane's outbound topics.

        `accepted`: topic -> the offset up to which records of another program do not count.
        """
        ...
