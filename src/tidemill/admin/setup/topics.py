"""The topics of a deployment with their lanes: created, and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tidemill.admin.ports import TopicInspector
from tidemill.admin.setup.ports import AppliedMigrations, LaneCreation
from tidemill.catalog.ports import TopicStore
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.catalog.topics import TopicFinding, TopicOptions, TopicPlan, plan_replies, plan_topics
from tidemill.domain.errors import ContractError, UsageError


@dataclass(frozen=True)
class Prepared:
    """What `topics create` did for a stream: new topics, how many new lanes, and what differs in topics that exist.

    `raised`: the limits that were below what is needed, with their old values.
    """

    aggregate: str
    partitions: int
    new_topics: Sequence[str]
    new_lanes: int
    raised: Sequence[TopicFinding]
    findings: Sequence[TopicFinding]


@dataclass(frozen=True, kw_only=True)
class TopicSetup:
    """Creates the topics of a deployment with their lanes, and checks their settings.

    `settings`, `partitions`: what an installation has set, None if nothing. `topics`: may raise `UsageError`.
    `replies`: the topic in which HTTP processes receive outcomes; None: there is none.
    """

    catalog: StreamCatalog
    settings: Callable[[], TopicOptions]
    partitions: int | None
    migrations: AppliedMigrations
    lanes: LaneCreation
    topics: Callable[[], TopicStore]
    inspector: TopicInspector
    replies: str | None = None

    async def create(self) -> list[Prepared]:
        """Create the topics of every stream, record its lanes, raise limits that are too low; all else stays.

        Raises:
            ContractError: topics or lanes exist with another number of partitions.
            UsageError: the broker refuses a topic, or migrations are missing.
            Unavailable: a server is.
        """
        await self.migrations.check()
        prepared = [await self._prepare(part) for part in self.catalog.streams.values()]
        if self.replies is not None:
            await self.topics().create([plan_replies(self.replies, self.settings())])
        return prepared

    async def check(self) -> list[TopicFinding]:
        """Return where topics differ from their expected settings. Raises `Unavailable`."""
        topics = self.topics()
        parts = [await self._as_created(part) for part in self.catalog.streams.values()]
        return await topics.check([plan for part in parts for plan in self._plans(part)])

    async def _prepare(self, part: ContextStream) -> Prepared:
        part = await self._as_created(part)
        stream, plans, topics = part.stream, self._plans(part), self.topics()
        made = await topics.create(plans)
        raised = await topics.raise_limits(plans)
        findings = await topics.check(plans)
        unfit = [finding for finding in findings if finding.setting == "partitions"]
        if unfit:
            raise ContractError(str(unfit[0]))
        firsts = await self._first_offsets(part)
        new_lanes = await self.lanes.create(stream.aggregate, stream.topics, firsts)
        return Prepared(stream.aggregate, stream.partitions, made, new_lanes, raised, findings)

    async def _as_created(self, part: ContextStream) -> ContextStream:
        return as_created(part, await self.lanes.created(part.stream.aggregate), self.partitions)

    async def _first_offsets(self, part: ContextStream) -> dict[int, int]:
        """Return where the command topic begins: a new lane of an old topic reads what is left of it."""
        topic = part.stream.topics.commands
        bounds = await self.inspector.bounds({topic: part.stream.partitions})
        return {partition: first for partition, (first, _) in enumerate(bounds[topic])}

    def _plans(self, part: ContextStream) -> list[TopicPlan]:
        return plan_topics(part.stream.topics, part.stream.partitions, self.settings())


def as_created(part: ContextStream, created: int, partitions: int | None) -> ContextStream:
    """Return a stream with its present number of lanes; a setting that differs is a mistake.

    `created`: how many lanes it was created with, 0 if it was not. `partitions`: as set. Raises `UsageError`.
    """
    if partitions is None and created:
        return part.with_lanes(created)
    if created not in {0, part.stream.partitions}:
        raise UsageError(
            f"TIDEMILL_TOPICS_PARTITIONS={part.stream.partitions}: {part.stream.aggregate} was created with {created} "
            "lanes, and keeps them for the life of its topics; unset it"
        )
    return part
