"""What preparing a deployment does with what is there already; and which command is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import pytest

from tidemill.admin.ports import TopicInspector
from tidemill.admin.records.publish import Answer, Publication, find_command
from tidemill.admin.setup.ports import Migrations
from tidemill.admin.setup.schemas import SchemaSetup
from tidemill.admin.setup.topics import TopicSetup, as_created
from tidemill.catalog.ports import TopicStore
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.catalog.topics import TopicFinding, TopicOptions, TopicPlan
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.market_data import context as market_data
from tidemill.domain.errors import ContractError, UsageError
from tidemill.domain.lane import StreamTopics
from tidemill.domain.stream import Stream

PART = ContextStream(market_data, Stream.of(replace(market_data, partitions=2)))
CATALOG = StreamCatalog(
    {
        "market-data": PART,
        "connector-profiles": ContextStream(connector_profiles, Stream.of(connector_profiles)),
    }
)


def test_a_stream_keeps_the_lanes_that_it_was_created_with() -> None:
    assert as_created(PART, 0, None).stream.partitions == 2
    assert as_created(PART, 5, None).stream.partitions == 5
    assert as_created(PART, 2, 2).stream.partitions == 2
    with pytest.raises(
        UsageError, match="TIDEMILL_TOPICS_PARTITIONS=2: market-data was created with 5 lanes"
    ):
        as_created(PART, 5, 2)


class Servers:
    """A broker that finds this, and a database without lanes."""

    def __init__(self, *findings: TopicFinding) -> None:
        self.findings = list(findings)
        self.created_lanes: dict[str, Mapping[int, int]] = {}
        self.steps: list[str] = []

    async def check_migrations(self, *, writes: bool = True) -> None:
        self.steps.append("migrations")

    async def created(self, aggregate: str) -> int:
        return 0

    async def create_lanes(self, aggregate: str, topics: StreamTopics, firsts: Mapping[int, int]) -> int:
        self.created_lanes[aggregate] = firsts
        return len(firsts)

    async def create(self, plans: Sequence[TopicPlan]) -> list[str]:
        self.steps.append("topics")
        return [plan.name for plan in plans]

    async def raise_limits(self, plans: Sequence[TopicPlan]) -> list[TopicFinding]:
        return []

    async def check(self, plans: Sequence[TopicPlan]) -> list[TopicFinding]:
        return self.findings

    async def bounds(self, topics: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
        return {topic: [(7, 9)] * count for topic, count in topics.items()}


class _Lanes:
    def __init__(self, servers: Servers) -> None:
        self.create, self.created = servers.create_lanes, servers.created


class _Migrations:
    def __init__(self, servers: Servers) -> None:
        self.check = servers.check_migrations


def topic_setup(servers: Servers) -> TopicSetup:
    return TopicSetup(
        catalog=StreamCatalog({"market-data": PART}),
        settings=TopicOptions,
        partitions=None,
        migrations=cast("Migrations", _Migrations(servers)),
        lanes=_Lanes(servers),
        topics=lambda: cast("TopicStore", servers),
        inspector=cast("TopicInspector", servers),
    )


async def test_a_new_lane_of_an_old_topic_reads_what_is_left_of_it() -> None:
    servers = Servers()
    (done,) = await topic_setup(servers).create()
    assert servers.steps == ["migrations", "topics"]
    assert servers.created_lanes == {"market-data": {0: 7, 1: 7}}
    assert (done.new_lanes, len(done.new_topics), done.partitions) == (2, 4, 2)


async def test_a_topic_of_another_width_gets_no_lanes() -> None:
    servers = Servers(TopicFinding("t", "partitions", "2", "3", vital=True))
    with pytest.raises(ContractError, match="t has 3 partitions instead of 2"):
        await topic_setup(servers).create()
    assert servers.created_lanes == {}


async def test_without_a_registry_there_is_nothing_to_register_at() -> None:
    with pytest.raises(UsageError, match="TIDEMILL_REGISTRY_URL is not set"):
        await SchemaSetup(CATALOG, lambda: None).register()


@pytest.mark.parametrize("name", ["RecordMarketData", "tidemill.market_data.RecordMarketData"])
def test_a_command_is_named_short_or_in_full(name: str) -> None:
    part, model = find_command(CATALOG, name)
    assert (part, model.__name__) == (PART, "RecordMarketData")


def test_a_command_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="'Quote' names no command: choose one of RecordMarketData, "):
        find_command(CATALOG, "Quote")


def test_a_publication_counts_what_became_of_its_records() -> None:
    publication = Publication("t", [Answer(1, "a", 0, 1, outcome="applied"), Answer(2, "b", 0, 2)])
    assert publication.counts == {"applied": 1, "no outcome yet": 1}
    assert Answer(3, "c", 0, 3, outcome="duplicate", original="rejected").refused
