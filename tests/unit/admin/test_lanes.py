"""Which lane is meant, which decision about it is allowed, and which parked record is meant."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.unit.admin.audit.test_balance import lane_state
from tidemill.admin.dead_letters import DeadLetters
from tidemill.admin.lanes.comparison import LaneComparison
from tidemill.admin.lanes.decisions import LaneDecisions, demand_offset, demand_same_count
from tidemill.admin.lanes.overview import LaneOverview
from tidemill.admin.lanes.ports import LaneStore, LaneTopics
from tidemill.admin.lanes.states import claim_of, find_lane, streams_as_created
from tidemill.admin.ports import DeadLetterReader, LaneReader, TopicInspector
from tidemill.admin.reasons import reason_of
from tidemill.admin.rows import LaneState
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.contexts.market_data import context
from tidemill.domain.errors import ContractError, UsageError
from tidemill.domain.lane import Anchor
from tidemill.domain.stream import Stream

CATALOG = StreamCatalog({context.aggregate: ContextStream(context, Stream.of(context, prefix="c"))})


def lane(number: int = 1, **changed: Any) -> LaneState:
    return lane_state(number, position=10, sequence=8, **changed)


class Database:
    """Lanes, without ledgers; what is decided about them is not allowed to reach it."""

    def __init__(self, *lanes: LaneState) -> None:
        self._lanes = lanes

    async def lanes(self, aggregate: str | None = None, lane_id: int | None = None) -> list[LaneState]:
        return [
            each
            for each in self._lanes
            if aggregate in (None, each.aggregate) and lane_id in (None, each.lane)
        ]

    async def lane_of(self, aggregate: str, partition: int) -> int | None:
        named = (
            each.lane for each in self._lanes if (each.aggregate, each.partition) == (aggregate, partition)
        )
        return next(named, None)

    async def ledger(self, lane_id: int, limit: int) -> list[Any]:
        return []

    async def nothing(self, *_: object, **__: object) -> None:
        return None

    resume = park = dead_letter = dead_letter_of = nothing


def reader(*lanes: LaneState) -> LaneReader:
    return cast("LaneReader", Database(*lanes))


def decisions(*lanes: LaneState) -> LaneDecisions:
    database, nowhere = Database(*lanes), object()
    return LaneDecisions(
        lanes=cast("LaneReader", database),
        store=cast("LaneStore", database),
        comparison=cast("LaneComparison", nowhere),
        topics=cast("TopicInspector", nowhere),
        lane_topics=cast("LaneTopics", nowhere),
    )


@pytest.mark.parametrize("name", ["2", "market-data/1"])
async def test_a_lane_is_named_by_number_or_by_aggregate_and_partition(name: str) -> None:
    assert (await find_lane(reader(lane(1), lane(2)), name)).lane == 2


@pytest.mark.parametrize("name", ["7", "market-data/7", "quotes/1", "99999999999"])
async def test_a_lane_that_there_is_not_is_said_so(name: str) -> None:
    with pytest.raises(UsageError, match=f"lane {name} does not exist: see `tidemill lanes list`"):
        await find_lane(reader(lane(1), lane(2)), name)


async def test_another_word_names_no_lane() -> None:
    with pytest.raises(UsageError, match="'market-data' is not a lane"):
        await find_lane(reader(lane()), "market-data")


def test_a_claim_is_the_lane_as_it_is_worked_now() -> None:
    assert claim_of(lane(anchor_offset=9, anchor_checksum=5)).progress.anchor == Anchor(9, 5)
    claim = claim_of(lane())
    assert (claim.epoch, claim.progress.anchor, claim.progress.next_offset) == (1, None, 10)


async def test_a_stream_has_the_lanes_that_it_was_created_with() -> None:
    topics = CATALOG.of("market-data").stream.topics
    named = {
        "command_topic": topics.commands,
        "event_topic": topics.events,
        "outcome_topic": topics.outcomes,
        "dead_letter_topic": topics.dead_letters,
    }
    created = await streams_as_created(CATALOG.contexts, reader(lane(1, **named), lane(2, **named)))
    assert created["market-data"][0].stream.partitions == 2


async def test_lanes_that_were_not_created_or_are_of_other_topics_are_refused() -> None:
    with pytest.raises(ContractError, match="no lanes in this database: run `tidemill topics create`"):
        await streams_as_created(CATALOG.contexts, reader())
    with pytest.raises(ContractError, match="set TIDEMILL_TOPICS_PREFIX as it was"):
        await streams_as_created(CATALOG.contexts, reader(lane()))


async def test_a_halted_lane_is_shown_with_what_can_be_done_about_it() -> None:
    overview = LaneOverview(catalog=CATALOG, lanes=reader(lane(halt_code="OFFSET_LOST"), lane(2)))
    shown = await overview.show("1", 10)
    assert shown.advice
    assert "tidemill lanes resume market-data/0 --skip-to OFFSET" in shown.choices[0]
    assert (await overview.show("2", 10)).advice is None
    assert [each.lane for each in await overview.every("market_data")] == [1, 2]


async def test_a_lane_that_is_not_halted_is_not_decided_about() -> None:
    with pytest.raises(UsageError, match=r"lane market-data/0 is not halted, so there is nothing to decide$"):
        await decisions(lane()).resume("1")
    with pytest.raises(
        UsageError, match=r"it waits: `tidemill lanes resume market-data/0 --park --reason TEXT`"
    ):
        await decisions(lane(waits_since=lane().at)).resume("1")
    with pytest.raises(UsageError, match="does not wait for a newer version"):
        await decisions(lane()).park("1", "no such schema")


async def test_a_halt_that_another_operator_has_lifted_meanwhile_is_said_so() -> None:
    with pytest.raises(UsageError, match="was resumed by another process meanwhile"):
        await decisions(lane(halt_code="UNFETCHABLE")).resume("1")


async def test_only_a_lane_that_is_halted_for_its_history_is_reconciled() -> None:
    with pytest.raises(UsageError, match="halted with OFFSET_LOST, which does not concern its history"):
        await decisions(lane(halt_code="OFFSET_LOST")).reconcile("1", "restored")


def test_an_offset_to_skip_to_must_be_there() -> None:
    halted = lane(halt_code="UNFETCHABLE")
    demand_offset(halted, 10, (0, 20))
    demand_offset(halted, 20, (0, 20))
    with pytest.raises(UsageError, match="c/0 holds offsets 12 to 19: choose --skip-to between 12 and 20"):
        demand_offset(halted, 11, (12, 20))


def test_what_was_consumed_is_read_again_only_from_another_topic() -> None:
    with pytest.raises(UsageError, match="has consumed everything before offset 10"):
        demand_offset(lane(halt_code="UNFETCHABLE"), 9, (0, 20))
    demand_offset(lane(halt_code="TOPIC_CHANGED"), 0, (0, 20))


def test_a_topic_of_another_width_has_no_right_offset() -> None:
    demand_same_count(lane(), 2)
    with pytest.raises(UsageError, match="still PARTITIONS_CHANGED: c has 3 partitions, and 2 lanes"):
        demand_same_count(lane(), 3)


@pytest.mark.parametrize("text", ["", "  \n", "x" * 501])
def test_a_reason_says_something_and_not_too_much(text: str) -> None:
    with pytest.raises(UsageError, match="--reason: give a reason of at most 500 characters"):
        reason_of(text)
    assert reason_of(" two \n words ") == "two words"


def dead_letters() -> DeadLetters:
    database = Database(lane())
    parked = cast("DeadLetterReader", database)
    return DeadLetters(catalog=CATALOG, parked=parked, lanes=cast("LaneReader", database))


@pytest.mark.parametrize(
    ("where", "position"), [("market-data/0", None), ("t.v1/1@5", "3"), ("1", "x"), ("1", "٣")]
)
async def test_a_parked_record_that_is_named_otherwise_is_refused_with_the_ways_to_name_it(
    where: str, position: str | None
) -> None:
    with pytest.raises(
        UsageError, match="names no parked record: name it as `tidemill dead-letters list` does"
    ):
        await dead_letters().show(where, position)


@pytest.mark.parametrize(
    ("where", "position", "said"),
    [
        ("market-data/0", "1,042", "lane market-data/0 parked nothing at position 1042"),
        ("t.v1/1@5", None, "t.v1/1@5 was not parked"),
    ],
)
async def test_a_record_that_was_not_parked_is_said_so(where: str, position: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=f"{said}: see `tidemill dead-letters list`"):
        await dead_letters().show(where, position)


async def test_a_code_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="there is no code 'WRONG': choose one of MALFORMED"):
        await dead_letters().newest(aggregate=None, code="WRONG", limit=1)
