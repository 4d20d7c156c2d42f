"""What the verbs of retention work with: the archive's database, its policies, and its lane's present claim."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from tidemill.admin.lanes.comparison import LaneComparison
from tidemill.admin.lanes.states import claim_of, streams_as_created
from tidemill.admin.reasons import reason_of
from tidemill.admin.rows import LaneState
from tidemill.app.archive_stream import Store
from tidemill.app.connections import kafka_connection, open_pool, open_registry
from tidemill.app.deployment import Deployment
from tidemill.app.processes.retention import archive_of, policies_of
from tidemill.app.startup.migrations import demand_migrations
from tidemill.catalog.streams import ContextStream
from tidemill.commands.internal_commands import OrderWriter
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import SliceId
from tidemill.domain.errors import Fenced, LaneHalted, TransientError, UsageError
from tidemill.domain.lane import Claim
from tidemill.outbox.ports import ForeignTail
from tidemill.retention.operator_actions import Operator
from tidemill.retention.planner import Facts
from tidemill.retention.ports import Busy, Overtaken
from tidemill.runtime.clock import SystemClock
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, Timeouts
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.kafka.admin.lane_topics import KafkaLaneTopics

T = TypeVar("T")

_TIMEOUTS: Final = Timeouts(idle_in_transaction_ms=60_000)
_TRIES: Final = 6
_PAUSE_S: Final = 0.5


class _Silent:
    """Stands for the codec where nothing is announced."""

    def encode_event(self, event: Any) -> bytes:
        raise RuntimeError(f"this verb announces nothing: {event!r}")


@dataclass(frozen=True)
class Desk:
    """The archive as an operator works at it."""

    deployment: Deployment
    pool: Pool
    store: Store
    policies: dict[str, Retention]
    _part: ContextStream
    _announcing: bool

    def policy(self, table: str) -> Retention:
        """Return the policy of a table, named with or without its schema. Raises `UsageError`."""
        named = [name for name in self.policies if table in (name, name.partition(".")[2])]
        if len(named) != 1:
            raise UsageError(
                f"no table {table!r} leaves for the archive: choose one of {', '.join(self.policies)}"
            )
        return self.policies[named[0]]

    def chosen(self, table: str | None) -> list[Retention]:
        """Return the policy of a table, or all of them. Raises `UsageError`."""
        return list(self.policies.values()) if table is None else [self.policy(table)]

    async def lane(self) -> LaneState:
        """Return the archive's lane as it is now. Raises `ContractError` if it was never created."""
        ((_, lanes),) = (
            await streams_as_created({self._part.stream.aggregate: self._part}, OperationsDatabase(self.pool))
        ).values()
        return lanes[0]

    async def claim(self) -> Claim:
        """Return the claim under which the archive's lane is worked now: its row lock keeps us apart."""
        return claim_of(await self.lane())

    async def order(self, work: Callable[[Claim], Awaitable[T]]) -> T:
        """Do something under the lane's present claim; again if something or somebody came in between.

        What publishes an event compares the lane with its topics first: a database that was restored knows nothing of
        that, and whoever serves the lane may not have looked yet.

        Raises:
            LaneHalted: the verb would publish, and the lane is halted, or contradicts its topics: then it is now.
            TransientError: others were in the way each time.
        """
        for attempt in range(1, _TRIES + 1):
            state = await self.lane()
            if self._announcing:
                await self._compare(state)
            try:
                return await work(claim_of(state))
            except (Busy, Fenced, Overtaken) as error:
                if attempt == _TRIES:
                    raise TransientError(f"{error}; nothing was changed: try again") from error
            await asyncio.sleep(_PAUSE_S * attempt)
        raise AssertionError("the last try returns or raises")

    async def _compare(self, state: LaneState) -> None:
        if state.halt_code is not None:
            raise LaneHalted(state.lane, state.halt_code, state.halt_detail or "")
        try:
            await LaneComparison(
                lanes=OperationsDatabase(self.pool),
                outbox=OutboxDatabase(self.pool),
                topics=KafkaLaneTopics(lambda: kafka_connection(self.deployment.settings)),
            ).compare(state)
        except (LaneHalted, ForeignTail) as found:
            code, detail = (
                (found.code, found.detail) if isinstance(found, LaneHalted) else ("FOREIGN_TAIL", str(found))
            )
            await CommandDatabase(self.pool).halt(claim_of(state), code, detail)
            raise LaneHalted(state.lane, code, detail) from found


@asynccontextmanager
async def desk(deployment: Deployment, *, announcing: bool = False) -> AsyncIterator[Desk]:
    """Open the database with the login of retention. `announcing`: the verb publishes an event.

    A server that takes no writes will do for a verb that only asks.

    Raises:
        UsageError: no table leaves for the archive.
    """
    async with AsyncExitStack() as shared:
        archive, settings = archive_of(deployment), deployment.settings
        await demand_migrations(deployment, writes=False)
        pool = await open_pool(
            shared,
            settings,
            name="tidemill operations",
            size=3,
            login="retention",
            timeouts=_TIMEOUTS,
            writes=False,
        )
        codec: Any = _Silent()
        if announcing:
            registry = open_registry(shared, settings)
            codec = await StreamCodec.open(
                archive.stream, archive.messages(), clock=SystemClock(), registry=registry
            )
        writer = OrderWriter(CommandDatabase(pool), SystemClock(), silent=not announcing)
        store = Store(pool, writer, codec, committed=lambda _: None)  # the relay finds new rows by itself
        policies = {each.table_name: each for each in policies_of(deployment)}
        yield Desk(deployment, pool, store, policies, archive, announcing)


def rehearsal(deployment: Deployment, as_of: datetime | None) -> Deployment:
    """Return the deployment with ages counted to `as_of`, if that is given; then nothing waits for a quiet period."""
    if as_of is None:
        return deployment
    settings = deployment.settings
    retention = settings.retention.model_copy(update={"as_of": as_of})
    return replace(deployment, settings=settings.model_copy(update={"retention": retention}))


def operator(reason: str) -> Operator:
    """Return who works here, for the trail. Raises `UsageError` for a reason that says nothing."""
    return Operator(getpass.getuser(), reason_of(reason))


def slice_at(facts: Facts, at: datetime, generation: int | None) -> SliceId:
    """Return the slice of the range that contains `at`; without a generation, the only one that can be meant.

    Raises:
        UsageError: there is none, or more than one.
    """
    found = [each.id for each in facts.slices if each.id.start <= at < each.id.end]
    chosen = [each for each in found if generation in (None, each.generation)]
    if not chosen:
        raise UsageError(
            f"the registry has no slice of {facts.table} with {at.isoformat()}"
            + (f" and generation {generation}" if generation else "")
            + f": see `tidemill retention status {facts.table}`"
        )
    if len(chosen) > 1:
        known = ", ".join(
            f"{each.id.generation} ({each.state})" for each in facts.slices if each.id in chosen
        )
        raise UsageError(f"that range has several generations: choose one by --generation; they are {known}")
    return chosen[0]
