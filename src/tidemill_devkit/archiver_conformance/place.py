"""The place of a test of an archiver: a database and topics on the deployment's servers, deleted afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from tidemill.app.connections import kafka_connection, open_pool, open_registry
from tidemill.app.deployment import Deployment
from tidemill.app.revisions import migrations_of
from tidemill.catalog.registration import register_schemas
from tidemill.catalog.schemas import load_messages
from tidemill.catalog.streams import outcome_messages
from tidemill.catalog.topics import TopicOptions, plan_topics
from tidemill.domain.archive.messages import archival_topics
from tidemill.domain.errors import UsageError
from tidemill.domain.lane import StreamTopics
from tidemill.runtime.resources import schemas_dir
from tidemill.settings import Settings
from tidemill.storage.database.pool import Pool, Timeouts
from tidemill.transport.kafka.catalog.topics import Topics
from tidemill_devkit.archiver_conformance.scratch import ScratchTable
from tidemill_devkit.databases import (
    comment_on_database,
    create_database,
    drop_database,
    note_of_database,
)

DEFAULT_PREFIX: Final = "tidemill-conformance"

_NAME: Final = "tidemill conformance"
_COMMENT: Final = "tidemill retention conformance: made to try an archiver, may be dropped"
_SLOWLY: Final = Timeouts(statement_ms=120_000, lock_ms=60_000, command_s=130.0)
_URLS: Final = ("url", "migration_url", "reader_url", "archiver_url", "retention_url", "http_url")


@dataclass(frozen=True)
class ConformanceSite:
    """A place that is ready. `settings`: the deployment's, with this database and these topics."""

    settings: Settings
    database: str
    topics: StreamTopics
    pool: Pool
    table: ScratchTable


@asynccontextmanager
async def scratch_place(deployment: Deployment, prefix: str, now: datetime) -> AsyncIterator[ConformanceSite]:
    """Create the place; it is deleted after the block in any case. Schemas stay in the registry.

    Raises:
        UsageError: the prefix is the deployment's own, or its database or topics exist and were not made by this verb.
    """
    if prefix == deployment.settings.topics.prefix:
        raise UsageError(f"--prefix {prefix} is this deployment's own: choose an unused one")
    database = prefix.replace("-", "_").replace(".", "_")
    settings = _settings_of(deployment.settings, database, prefix)
    topics = archival_topics(prefix=prefix)
    async with AsyncExitStack() as shared:
        server = await open_pool(
            shared, deployment.settings, name=_NAME, size=1, login="migration", timeouts=_SLOWLY
        )
        await _demand_room(server, deployment.settings, database, topics)
        try:
            async with AsyncExitStack() as inside:
                pool = await _prepare(inside, server, settings, database)
                table = ScratchTable(pool, f"public.conformance_{now:%Y%m%d_%H%M%S}")
                await table.create()
                await _open_topics(inside, settings, topics)
                yield ConformanceSite(settings, database, topics, pool, table)
        finally:
            await _remove_topics(settings, topics)
            await drop_database(server, database)


async def _demand_room(server: Pool, settings: Settings, database: str, topics: StreamTopics) -> None:
    """Delete what a killed run left, unless it is in use or was not made by this verb."""
    note = await note_of_database(server, database, _NAME)
    if note is not None and note.comment != _COMMENT:
        raise UsageError(
            f"database {database} exists, and was not made by this verb: choose another --prefix"
        )
    if note is not None and note.used:
        raise UsageError(f"another run uses database {database}: wait for it, or choose another --prefix")
    if note is None:
        there = await _existing(settings, topics)
        if there:
            raise UsageError(
                f"topics {', '.join(there)} exist, and were not made by this verb: choose another --prefix"
            )
    else:
        await _remove_topics(settings, topics)
        await drop_database(server, database)


async def _prepare(shared: AsyncExitStack, server: Pool, settings: Settings, database: str) -> Pool:
    """Make the database with the tables that every deployment has; return a pool of its owner."""
    if not await create_database(server, database):
        raise UsageError(f"another run has just made database {database}: choose another --prefix")
    await comment_on_database(server, database, _COMMENT)
    pool = await open_pool(shared, settings, name=_NAME, size=2, login="migration", timeouts=_SLOWLY)
    await migrations_of(Deployment.of(settings, ())).upgrade(["heads"], lambda _: None)
    return pool


async def _open_topics(shared: AsyncExitStack, settings: Settings, topics: StreamTopics) -> None:
    chosen = settings.topics
    plans = plan_topics(
        topics,
        1,
        TopicOptions(
            replication=chosen.replication,
            max_command_bytes=chosen.max_command_bytes,
            max_event_bytes=chosen.max_event_bytes,
        ),
    )
    await Topics(kafka_connection(settings)).create(plans)
    registry = open_registry(shared, settings)
    if registry is not None:
        await register_schemas(
            registry, topics, load_messages(schemas_dir(), "archival") | outcome_messages()
        )


async def _existing(settings: Settings, topics: StreamTopics) -> list[str]:
    named = sorted(topics.named().values())
    states = await Topics(kafka_connection(settings)).describe(named)
    return [name for name, state in states.items() if state is not None]


async def _remove_topics(settings: Settings, topics: StreamTopics) -> None:
    there = await _existing(settings, topics)
    if there:
        await Topics(kafka_connection(settings)).delete(there)


def _settings_of(settings: Settings, database: str, prefix: str) -> Settings:
    """Return settings for the same servers and logins, with another database and other topics."""
    urls = {
        name: urlsplit(secret.get_secret_value())._replace(path=f"/{database}").geturl()
        for name in _URLS
        if (secret := getattr(settings.database, name)) is not None
    }
    changes: dict[str, dict[str, Any]] = {"database": urls, "topics": {"prefix": prefix}}
    try:
        groups = {
            name: type(getattr(settings, name)).model_validate(dict(getattr(settings, name)) | changed)
            for name, changed in changes.items()
        }
    except ValidationError as fault:
        raise UsageError(f"--prefix {prefix}: {fault.errors()[0]['msg']}") from None
    return settings.model_copy(update=groups)
