"""From settings to an operator's access to the archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from tidemill.admin.archive.access import ArchiveAccess
from tidemill.admin.archive.ports import ArchivedCopies
from tidemill.admin.lanes.comparison import LaneComparison
from tidemill.app.connections import kafka_connection
from tidemill.app.deployment import Deployment
from tidemill.app.processes.retention import archive_of, policies_of
from tidemill.app.startup.migrations import demand_migrations
from tidemill.catalog.ports import SchemaRegistry
from tidemill.commands.internal_commands import InternalCommandWriter
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.threads import in_thread
from tidemill.settings import Settings
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, Timeouts
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.storage.retention.restore_work import RestoreDatabase
from tidemill.storage.retention.work import RetentionDatabase
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.kafka.admin.lane_topics import KafkaLaneTopics

TIMEOUTS: Final = Timeouts(idle_in_transaction_ms=60_000)


@asynccontextmanager
async def open_access(
    deployment: Deployment,
    open_pool: Callable[[], Awaitable[Pool]],
    registry: Callable[[], SchemaRegistry | None],
    *,
    announcing: bool = False,
) -> AsyncIterator[ArchiveAccess]:
    """Open the archive. `open_pool`: with the login of retention. `announcing`: the action publishes an event.

    Raises:
        UsageError: no table has a retention.
    """
    archive, settings, clock = archive_of(deployment), deployment.settings, SystemClock()
    await demand_migrations(deployment, writes=False)
    pool = await open_pool()
    encode = None
    if announcing:
        codec = await StreamCodec.open(archive.stream, archive.messages(), clock=clock, registry=registry())
        encode = codec.encode_event
    commands, operations = CommandDatabase(pool), OperationsDatabase(pool)
    writer = InternalCommandWriter(commands, clock, silent=not announcing)
    topics = KafkaLaneTopics(partial(kafka_connection, settings))
    yield ArchiveAccess(
        policies={each.table_name: each for each in policies_of(deployment)},
        as_of=settings.retention.as_of,
        stream=archive,
        store=RetentionDatabase(pool, writer, encode),  # the relay finds new rows by itself
        restores=RestoreDatabase(pool),
        lanes=operations,
        comparison=LaneComparison(lanes=operations, outbox=OutboxDatabase(pool), topics=topics),
        halt=commands.halt,
        announcing=announcing,
    )


async def open_copies(settings: Settings) -> ArchivedCopies:
    """Open the lake for reading. Raises `UsageError` if no root is set."""
    from tidemill.app import lake  # noqa: PLC0415  loads pyarrow, which no other question needs

    return await in_thread(
        partial(lake.open_copies, settings), server="lake", timeout_s=settings.lake.timeout_s
    )
