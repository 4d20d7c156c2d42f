"""How far every hop is, from rows and offsets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from tests.unit.admin.audit.test_balance import lane_state
from tidemill.admin.command_lookup import identity_of
from tidemill.admin.ports import HoldingsReader, LaneReader, ProcessReader, ReadModelStates, TopicInspector
from tidemill.admin.progress import CommandLag, command_lags, read_model_status, stream_status
from tidemill.admin.rows import GroupMember, LaneState, ProjectionHalt, ProjectionState
from tidemill.admin.status import SecretFaults, Status, StatusReader
from tidemill.catalog.misfits import MisfitReader
from tidemill.catalog.ports import DeclaredTables, PendingMigrations
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.catalog.tables import Difference, Kind
from tidemill.contexts.market_data import context
from tidemill.domain.community import EditionFeatures
from tidemill.domain.errors import Unavailable, UsageError
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.security.gate import SecretFault

AT = datetime(2026, 1, 1, tzinfo=UTC)
CATALOG = StreamCatalog({context.aggregate: ContextStream(context, Stream.of(context))})


class Topics:
    """Topics that end `hidden` offsets after what can be read; of a short span every second offset is a record."""

    def __init__(self, *spans: tuple[int, int]) -> None:
        self.spans = spans
        self.asked: list[tuple[str, int]] = []
        self.gone: set[str] = set()
        self.asked_groups: list[str] = []
        self.in_group: list[GroupMember] = []
        self.hidden = 0

    async def absent(self, topics: Collection[str]) -> list[str]:
        return sorted(self.gone & set(topics))

    async def bounds(self, topics: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
        return {topic: list(self.spans) for topic in topics}

    async def ends(self, topics: Mapping[str, int]) -> dict[str, list[int]]:
        return {topic: [end + self.hidden for _, end in self.spans] for topic in topics}

    async def written_at(self, offsets: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], datetime]:
        return dict.fromkeys(offsets, AT)

    async def members(self, topics: Collection[str]) -> list[GroupMember]:
        self.asked_groups = list(topics)
        return self.in_group

    async def unread(self, spans: Mapping[tuple[str, int], tuple[int, int]]) -> dict[tuple[str, int], int]:
        self.asked += spans
        return {place: (end - first) // 2 for place, (first, end) in spans.items()}


class Away(Topics):
    """Kafka, while it is unavailable."""

    async def bounds(self, topics: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
        raise Unavailable("kafka", "no broker answers")


class Database:
    """Rows of lanes and projections, and nothing else."""

    def __init__(self, lanes: Sequence[LaneState], projections: Sequence[ProjectionState] = ()) -> None:
        self._lanes, self._projections = list(lanes), list(projections)

    async def lanes(self) -> list[LaneState]:
        return self._lanes

    async def projections(self) -> list[ProjectionState]:
        return self._projections

    async def nothing(self, *_: object) -> list[Any]:
        return []

    async def unpublished_since(self, positions: Mapping[int, int]) -> dict[int, datetime]:
        return dict.fromkeys(positions, AT)

    async def unfolded_since(self, sequences: Mapping[int, int]) -> dict[int, datetime]:
        return dict.fromkeys(sequences, AT)

    async def features(self) -> EditionFeatures:
        return EditionFeatures(is_community=False)

    foreign_records = processes = holdings = missing = nothing
    stream_differences = projection_differences = faults = nothing


class Unseen(Database):
    """A database that lacks what readers see."""

    async def stream_differences(self, *_: object) -> list[Any]:
        return [Difference("public.users_view", "the view is missing", Kind.MISSING, harmless=True)]


async def read(database: Database, topics: Topics) -> Status:
    tables = MisfitReader(cast("DeclaredTables", database), cast("PendingMigrations", database))
    return await StatusReader(
        catalog=CATALOG,
        lanes=cast("LaneReader", database),
        read_models=cast("ReadModelStates", database),
        archive=cast("HoldingsReader", database),
        misfits=tables,
        processes=cast("ProcessReader", database),
        secrets=cast("SecretFaults", database),
        topics=cast("TopicInspector", topics),
        edition=database,
        clock=SystemClock(),
    ).read()


def lanes(**changed: Any) -> list[LaneState]:
    return [lane_state(1, position=10, sequence=8, **changed), lane_state(2, position=300, sequence=2)]


async def test_a_short_distance_is_counted_and_a_long_one_taken_as_it_is() -> None:
    topics = Topics((0, 30), (0, 1_000))
    lags = await command_lags(cast("TopicInspector", topics), lanes())
    assert {lane: lag.records for lane, lag in lags.items()} == {1: 10, 2: 700}
    assert topics.asked == [("c", 0)]


async def test_what_was_deleted_before_it_was_read_is_not_counted() -> None:
    topics = Topics((20, 30), (0, 300))
    lags = await command_lags(cast("TopicInspector", topics), lanes())
    assert {lane: lag.records for lane, lag in lags.items()} == {1: 20, 2: 0}
    assert topics.asked == []


def test_a_stream_is_the_sum_of_its_lanes() -> None:
    (found,) = stream_status(lanes(owner="me", halt_code="OFFSET_LOST"), {1: CommandLag(3), 2: CommandLag(4)})
    assert (found.lanes, found.owned, found.halted, found.command_lag, found.events) == (2, 1, 1, 7, 10)
    (found,) = stream_status(lanes(), {})
    assert found.command_lag is None, "nobody could be asked"


def test_a_read_model_lags_by_the_events_of_its_stream_that_it_has_not_folded() -> None:
    started = ProjectionState("latest-quotes", context.aggregate, 1, "t", None, None, {0: 5, 1: 2}, [])
    found = {each.projection: each for each in read_model_status(CATALOG, lanes(), [started])}
    assert (found["latest-quotes"].started, found["latest-quotes"].lag) == (True, 3)
    assert (found["daily-bars"].started, found["daily-bars"].lag) == (False, 10)


async def test_kafka_that_is_unavailable_is_reported_beside_what_the_database_says() -> None:
    found = await read(Database(lanes()), Away())
    assert found.trouble is not None
    assert "no broker answers" in found.trouble
    assert not found.ok
    assert [stream.command_lag for stream in found.streams] == [None]


async def test_a_topic_that_is_missing_is_named() -> None:
    topics = Topics((0, 10), (0, 300))
    topics.gone = {lanes()[0].event_topic, "another"}
    found = await read(Database(lanes()), topics)
    assert found.trouble is not None
    assert found.trouble.startswith(f"Kafka has no {lanes()[0].event_topic}, or")
    assert "tidemill topics check" in found.trouble
    assert not found.ok


async def test_what_the_edition_cannot_do_is_named_and_stops_nothing() -> None:
    found = await read(Database(lanes()), Topics((0, 10), (0, 300)))
    assert (found.edition, found.ok) == ("Apache", True)
    assert [each.feature for each in found.lacking] == ["compression of public.market_data"]


async def test_a_view_that_is_missing_is_named_and_stops_nothing() -> None:
    found = await read(Unseen(lanes()), Topics((0, 10), (0, 300)))
    assert [str(difference) for difference in found.differences] == ["public.users_view: the view is missing"]
    assert (found.misfits, found.ok) == ([], True)


class Keyless(Database):
    """A database with secrets, asked where no master key is set."""

    async def faults(self, *_: object) -> list[Any]:
        return [
            SecretFault(context.aggregate, "SECRET_KEYS_MISSING", "TIDEMILL_SECRET_KEYS is not set", "add it")
        ]


async def test_missing_master_keys_are_named_while_a_lane_of_their_stream_has_no_owner() -> None:
    topics = Topics((0, 10), (0, 300))
    stopped = await read(Keyless(lanes()), topics)
    assert ([fault.code for fault in stopped.secrets], stopped.ok) == (["SECRET_KEYS_MISSING"], False)
    served = await read(Keyless([lane._replace(owner="another with the keys") for lane in lanes()]), topics)
    assert (served.secrets, served.ok) == ([], True)


def test_a_lane_whose_owner_is_not_connected_is_not_owned() -> None:
    killed, seen, unseen = (
        lane_state(number, position=1, sequence=1, owner="tidemill all") for number in (1, 2, 3)
    )
    found = stream_status([killed._replace(served=False), seen._replace(served=True), unseen], {})
    assert found[0].owned == 2


async def test_what_is_behind_an_open_transaction_counts_and_is_named_with_its_age() -> None:
    topics = Topics((0, 10), (0, 300))
    topics.hidden = 2
    found = await read(Database(lanes()), topics)
    assert [(stream.command_lag, stream.hidden, stream.command_since) for stream in found.streams] == [
        (4, 4, AT)
    ]
    assert [(hidden.records, hidden.since) for hidden in found.hidden] == [(2, AT), (2, AT)]


async def test_what_was_consumed_beyond_a_restored_end_hides_nothing() -> None:
    found = await read(Database(lanes()), Topics((0, 3), (0, 300)))
    assert found.hidden == []


async def test_another_program_in_the_group_is_named_while_a_lane_has_no_owner() -> None:
    ours = GroupMember("c", "c", "tidemill-all-host-1-abc", "host", [1])
    topics, stranger = Topics((0, 10), (0, 300)), GroupMember("c", "c", "rdkafka", "10.0.0.7", [0])
    topics.in_group = [ours, stranger, stranger._replace(partitions=[])]
    stopped = await read(Database(lanes()), topics)
    assert (stopped.foreign_members, stopped.ok, topics.asked_groups) == ([stranger], False, ["c"])
    served = await read(Database([lane._replace(owner="me") for lane in lanes()]), topics)
    assert served.foreign_members == []


async def test_every_hop_says_since_when_its_oldest_record_waits() -> None:
    started = ProjectionState("latest-quotes", context.aggregate, 1, "t", None, None, {0: 8, 1: 2}, [])
    found = await read(Database(lanes(), [started]), Topics((0, 30), (0, 300)))
    (stream,) = found.streams
    assert (stream.command_since, stream.unpublished_since) == (AT, AT)
    assert {view.projection: view.since for view in found.views} == {"latest-quotes": None, "daily-bars": AT}


async def test_without_lanes_it_says_what_to_run() -> None:
    found = await read(Database([]), Away())
    assert found.trouble == "there are no lanes yet: run `tidemill topics create`"


async def test_what_stands_still_is_named_with_an_advice() -> None:
    halt = ProjectionHalt("latest-quotes", 1, "GAP", 3, 5, "events 3 and 4", AT)
    stuck = ProjectionState("latest-quotes", context.aggregate, 1, "t", None, None, {}, [halt])
    halted = lanes(halt_code="OFFSET_LOST", halt_detail="gone", halted_since=AT)
    found = await read(Database(halted, [stuck]), Topics((0, 10), (0, 300)))
    assert [each.what for each in found.halts] == [
        "lane 1 (market-data/0)",
        "latest-quotes, lane market-data/1",
    ]
    assert all(each.advice for each in found.halts)
    assert not found.ok
    assert (await read(Database(lanes()), Topics((0, 10), (0, 300)))).ok


def test_an_id_that_is_unique_only_within_its_service_needs_the_service() -> None:
    with pytest.raises(UsageError, match=r"'order-17' is not a UUID.*--service NAME"):
        identity_of("order-17", None)
    assert identity_of("order-17", "shop") != identity_of("order-17", "till")
    assert str(identity_of("5C0A2F6E-0000-4000-8000-000000000001", None)).startswith("5c0a2f6e")
