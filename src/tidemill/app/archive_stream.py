"""The archive as a stream: confirmations in, requests out, run by the same engine as every other stream.

Its one lane has one owner, the process that serves retention, which also writes its own decisions to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, cast

from tidemill.commands.decide_fold import EncodedEvent, Result
from tidemill.commands.handlers import Handler
from tidemill.commands.internal_commands import (
    InternalCommand,
    InternalCommandNumbering,
    InternalCommandWriter,
)
from tidemill.commands.ports import CommandCodec, LaneFollower, Locked, UnitOfWork
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent, archival_topics
from tidemill.domain.archive.policy import Retention
from tidemill.domain.context import CommandSpec, Context
from tidemill.domain.decision import Rejected
from tidemill.domain.lane import Claim
from tidemill.domain.stream import Stream
from tidemill.retention import requests
from tidemill.retention.confirmations import CODES, fold
from tidemill.retention.slices import AnswerLimits
from tidemill.storage.commands.unit_of_work import BatchTransaction
from tidemill.storage.database.pool import Pool
from tidemill.storage.retention.archive import ArchiveDatabase, Registry, SliceRows

AGGREGATE: Final = "archival"
EVENT: Final = "tidemill.archival.ArchivalEvent"
CONFIRMATION: Final = "tidemill.archival.ArchivalConfirmation"

_SERVICE: Final = "tidemill.retention"

context: Final = Context(
    aggregate=AGGREGATE,
    key=lambda confirmation: confirmation.event_id,
    commands=(CommandSpec(cast("type", ArchivalConfirmation)),),
    keyed=False,
    partitions=1,
    codes=CODES,
)
"""The archive as a context: archivers of others cannot know its keys, so there is one lane."""


def archive_stream(prefix: str) -> Stream:
    """Return the archive's stream, its topics named with `prefix`."""
    stream = Stream.of(context, prefix=prefix)
    return replace(stream, topics=archival_topics(prefix=prefix), events={EVENT: ArchivalEvent})


class ConfirmationStyle:
    """How confirmations are decided: each is folded over the slices of its request, in the batch's transaction."""

    def __init__(self, policies: Mapping[str, Retention]) -> None:
        """`policies`: by `schema.table`."""
        self._policies = policies

    async def apply(
        self, work: UnitOfWork, arrivals: Sequence[IncomingCommand], locked: Locked
    ) -> list[Result]:
        """Store the effect of each confirmation, one after the other: later ones see the steps of earlier ones."""
        registry = Registry(cast("BatchTransaction", work).connection)
        return [
            await self._one(registry, cast("ArchivalConfirmation", each.command), locked.now)
            for each in arrivals
        ]

    async def _one(self, registry: Registry, confirmation: ArchivalConfirmation, at: datetime) -> Result:
        slices = await registry.of_event(confirmation.event_id)
        policy = self._policies.get(slices[0].id.table) if slices else None
        folded = fold(confirmation, slices, at, AnswerLimits.of(policy) if policy else AnswerLimits())
        for step in folded.steps:
            await registry.store(step)
        rejected: Rejected | None = folded.rejected
        return rejected if rejected is not None else []


def styles(
    policies: Mapping[str, Retention],
) -> Callable[[Stream, CommandCodec, int], dict[type[CommandSpec], Handler]]:
    """Return the factory of the archive's only style."""
    return lambda _stream, _codec, _largest: {CommandSpec: ConfirmationStyle(policies)}


@dataclass
class ArchiveLane:
    """The archive's lane, as its relay follows it: under which claim, and what to wake.

    `news`: set after every commit, and when the lane is owned: a reader sees nothing before the commit.
    """

    news: Callable[[], None] = lambda: None
    claim: Claim | None = None
    _taken: dict[int, Claim] = field(default_factory=dict, repr=False)
    _relays: LaneFollower | None = field(default=None, repr=False)

    def before(self, relays: LaneFollower) -> ArchiveLane:
        """Take the place of the relays' follower: everything is passed on to them."""
        self._relays = relays
        self.claim = None
        return self

    async def take(self, claims: Sequence[Claim]) -> None:
        """Follow these claims from now on."""
        self._taken |= {claim.lane.lane: claim for claim in claims}
        await self._follower.take(claims)

    async def compared(self, lane: int) -> None:
        """Return when the lane was compared."""
        await self._follower.compared(lane)

    def begun(self, lanes: Sequence[int]) -> None:
        """Own the lane from now on."""
        self._follower.begun(lanes)
        for lane in lanes:
            self.claim = self._taken.get(lane)
        self.news()

    async def drop(self, lanes: Sequence[int]) -> None:
        """Give lanes up."""
        for lane in lanes:
            self._taken.pop(lane, None)
        if self.claim is not None and self.claim.lane.lane in lanes:
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


class Work(SliceRows):
    """`retention.ports.ArchiveWork`: the registry and the rows, and events that go with the commit."""

    def __init__(
        self, book: InternalCommandNumbering, encode: Callable[[ArchivalEvent], bytes], database: str
    ) -> None:
        """`book`: of a transaction that holds the lane. `database`: what events call it."""
        super().__init__(cast("BatchTransaction", book.work).connection)
        self._book = book
        self._encode = encode
        self._database = database

    @property
    def at(self) -> datetime:
        """Return the server's time."""
        return self._book.at

    def announce(self, event: ArchivalEvent) -> None:
        """Publish an event if and only if the transaction commits."""
        told = event.model_copy(update={"database": self._database})
        self._book.orders.append(
            InternalCommand(
                name=EVENT,
                command_id=requests.order_id(event),
                service=_SERVICE,
                key=event.table_name.encode(),
                events=[EncodedEvent(EVENT, self._encode(told))],
            )
        )


class Store(ArchiveDatabase):
    """`retention.ports.ArchiveStore`: transactions under the lane, and questions beside it."""

    def __init__(
        self,
        pool: Pool,
        writer: InternalCommandWriter,
        codec: CommandCodec,
        committed: Callable[[Claim], None],
    ) -> None:
        """`committed` is called after every transaction that announced something."""
        super().__init__(pool)
        self._writer = writer
        self._codec = codec
        self._committed = committed

    @asynccontextmanager
    async def transaction(self, claim: Claim) -> AsyncIterator[Work]:
        """Open a transaction under the archive's lane. Raises `Fenced`."""
        database = await self.database_name()
        async with self._writer.transaction(claim) as book:
            yield Work(book, cast("Callable[[ArchivalEvent], bytes]", self._codec.encode_event), database)
        if book.orders:
            self._committed(claim)
