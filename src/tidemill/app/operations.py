"""Opening what a task of an operator works with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from tidemill.app.connections import kafka_connection, open_pool
from tidemill.app.deployment import Deployment
from tidemill.storage.database.pool import Pool
from tidemill.transport.kafka.admin.inspection import Inspector


@asynccontextmanager
async def operating(deployment: Deployment, *, size: int = 2) -> AsyncIterator[tuple[AsyncExitStack, Pool]]:
    """Open the database for a task; a server that takes no writes will do for one that only asks."""
    async with AsyncExitStack() as shared:
        pool = await open_pool(
            shared, deployment.settings, name="tidemill operations", size=size, writes=False
        )
        yield shared, pool


@asynccontextmanager
async def inspecting(deployment: Deployment) -> AsyncIterator[Inspector]:
    """Open Kafka for a task's questions."""
    inspector = Inspector(partial(kafka_connection, deployment.settings))
    try:
        yield inspector
    finally:
        await inspector.close()
