"""Tasks that prepare: migrations, topics with their lanes, schemas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tidemill.app.connections import database_tls, kafka_connection, open_pool, open_registry
from tidemill.app.context_loading import migration_locations
from tidemill.app.contract import demand_source
from tidemill.app.deployment import Deployment
from tidemill.app.startup.migrations import demand_migrations
from tidemill.catalog.registration import Registration, register_schemas
from tidemill.catalog.streams import ContextStream, outcome_messages
from tidemill.domain.errors import ContractError, UsageError
from tidemill.storage.admin.lane_changes import LaneDatabase
from tidemill.storage.migrations import migrate as migrations
from tidemill.storage.migrations import revisions
from tidemill.transport.kafka.admin.inspection import Inspector
from tidemill.transport.kafka.catalog.topics import Finding, TopicPlan, Topics, TopicSettings, plan_topics

Step = migrations.Step
"""A revision that was just applied or undone."""

OnStep = Callable[[Step], None]


# --- migrations ------------------------------------------------------------------------------------------------------


async def migrate(deployment: Deployment, targets: Sequence[str], on_step: OnStep) -> list[Step]:
    """Apply revisions up to `targets` (Alembic's words: `heads`, `market_data@head`); return what was done."""
    settings = deployment.settings.database
    return await migrations.upgrade(
        settings.dsn("migration"),
        targets=targets,
        locations=_locations(deployment),
        on_step=on_step,
        tls=database_tls(settings),
    )


async def undo(deployment: Deployment, targets: Sequence[str], on_step: OnStep) -> list[Step]:
    """Undo revisions, with all that their tables hold, down to `targets` (`market_data@base`); return what was done."""
    settings = deployment.settings.database
    return await migrations.downgrade(
        settings.dsn("migration"),
        targets=targets,
        locations=_locations(deployment),
        on_step=on_step,
        tls=database_tls(settings),
    )


async def migration_status(deployment: Deployment) -> list[migrations.MigrationInfo]:
    """Return every revision that this version knows, and when it was applied."""
    settings = deployment.settings.database
    return await migrations.status(
        settings.dsn("migration"), locations=_locations(deployment), tls=database_tls(settings)
    )


def migration_sql(deployment: Deployment) -> str:
    """Return the SQL that `migrate` runs on an empty database, for a person to read; nothing is connected to."""
    return migrations.upgrade_sql(_locations(deployment))


def draft_revision(deployment: Deployment, aggregate: str, about: str) -> Path:
    """Begin a revision of a context's migrations, at their end; return its file, which carries the rules to keep.

    Raises:
        UsageError: there is no such aggregate, `about` is empty, or the context is not in a source folder.
    """
    context = deployment.catalog.of(aggregate).context
    if context.migrations is not None:
        demand_source(context.migrations)
    return revisions.draft(context.name, about, folder=context.migrations)


def _locations(deployment: Deployment) -> tuple[Path, ...]:
    return migration_locations(part.context for part in deployment.catalog.contexts.values())


# --- topics ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """What `topics create` did for a stream: new topics, how many new lanes, and what differs in topics that exist.

    `raised`: the limits that were below what is needed, as they were.
    """

    aggregate: str
    partitions: int
    new_topics: Sequence[str]
    new_lanes: int
    raised: Sequence[Finding]
    findings: Sequence[Finding]


async def create_topics(deployment: Deployment) -> list[Prepared]:
    """Make the topics of every stream, record its lanes, raise limits that are too low; all else that is there stays.

    Raises:
        ContractError: topics or lanes exist with another number of partitions.
        UsageError: the broker refuses a topic, or migrations are missing.
        Unavailable: a server is away.
    """
    await demand_migrations(deployment)
    async with AsyncExitStack() as shared:
        pool = await open_pool(shared, deployment.settings, name="tidemill topics", size=1, login="migration")
        lanes = LaneDatabase(pool)
        return [await _prepare(deployment, part, lanes) for part in deployment.catalog.streams.values()]


async def _prepare(deployment: Deployment, part: ContextStream, lanes: LaneDatabase) -> Prepared:
    part = await _as_created(deployment, part, lanes)
    stream, kafka = part.stream, kafka_connection(deployment.settings)
    plans = _plans(deployment, part)
    topics = Topics(kafka)
    made = await topics.create(plans)
    raised = await topics.raise_limits(plans)
    findings = await topics.check(plans)
    unfit = [finding for finding in findings if finding.setting == "partitions"]
    if unfit:
        raise ContractError(str(unfit[0]))
    firsts = await _first_offsets(deployment, part)
    new_lanes = await lanes.create(stream.aggregate, stream.topics, firsts)
    return Prepared(stream.aggregate, stream.partitions, made, new_lanes, raised, findings)


async def _as_created(deployment: Deployment, part: ContextStream, lanes: LaneDatabase) -> ContextStream:
    """Return the part with as many lanes as it has; a setting that says otherwise is a mistake."""
    created = await lanes.created(part.stream.aggregate)
    if deployment.settings.topics.partitions is None and created:
        return part.with_lanes(created)
    if created not in {0, part.stream.partitions}:
        raise UsageError(
            f"TIDEMILL_TOPICS_PARTITIONS={part.stream.partitions}: {part.stream.aggregate} was created with {created} "
            "lanes, and keeps them for the life of its topics; unset it"
        )
    return part


async def _first_offsets(deployment: Deployment, part: ContextStream) -> dict[int, int]:
    """Return where the command topic begins: a lane that is new to an old topic reads what is left of it."""
    inspector, topic = Inspector(lambda: kafka_connection(deployment.settings)), part.stream.topics.commands
    try:
        bounds = await inspector.bounds({topic: part.stream.partitions})
    finally:
        await inspector.close()
    return {partition: first for partition, (first, _) in enumerate(bounds[topic])}


async def check_topics(deployment: Deployment) -> list[Finding]:
    """Return where topics differ from what they should be. Raises `Unavailable`."""
    topics = Topics(kafka_connection(deployment.settings))
    async with AsyncExitStack() as shared:
        pool = await open_pool(shared, deployment.settings, name="tidemill topics", size=1, writes=False)
        lanes = LaneDatabase(pool)
        parts = [await _as_created(deployment, part, lanes) for part in deployment.catalog.streams.values()]
    return await topics.check([plan for part in parts for plan in _plans(deployment, part)])


def _plans(deployment: Deployment, part: ContextStream) -> list[TopicPlan]:
    chosen = deployment.settings.topics
    settings = TopicSettings(
        replication=chosen.replication,
        command_retention=timedelta(days=chosen.command_days),
        outcome_retention=timedelta(days=chosen.outcome_days),
        dead_letter_retention=timedelta(days=chosen.dead_letter_days),
        max_command_bytes=chosen.max_command_bytes,
        max_event_bytes=chosen.max_event_bytes,
    )
    return plan_topics(part.stream.topics, part.stream.partitions, settings)


# --- schemas ---------------------------------------------------------------------------------------------------------


async def register_all_schemas(deployment: Deployment) -> list[Registration]:
    """Put the schemas of every stream into the registry. Raises `ContractError`, `UsageError`, `Unavailable`."""
    async with AsyncExitStack() as shared:
        registry = open_registry(shared, deployment.settings)
        if registry is None:
            raise UsageError(
                "TIDEMILL_REGISTRY_URL is not set, so there is no registry to put schemas into; "
                "without one, records carry the fingerprint of their schema, and nothing needs to be registered"
            )
        return [
            registration
            for part in deployment.catalog.streams.values()
            for registration in await register_schemas(
                registry, part.stream.topics, part.messages() | outcome_messages()
            )
        ]
