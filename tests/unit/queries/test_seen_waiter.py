"""Readers that wait for what they have seen."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from tests.fakes.seen import MemoryLaneProgress
from tests.support.engine.codecs import HandClock
from tests.support.waiting import HANGING_S, next_turn
from tidemill.domain.errors import RequestRefused, Unavailable
from tidemill.domain.request_codes import RequestCode
from tidemill.queries.ports import ProgressKey
from tidemill.queries.seen import HistoryFork, SeenLane, SeenNumber, parse_seen
from tidemill.queries.seen_waiter import Behind, Reached, SeenWaiter

STOCKS = ProgressKey("goods", 0, "stocks")


@dataclass
class Bench:
    """A waiter whose ticks and clock a test moves. `paused`: it has asked, and waits for the next tick."""

    reader: MemoryLaneProgress = field(default_factory=MemoryLaneProgress)
    clock: HandClock = field(default_factory=HandClock)
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    ticks: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.waiter = SeenWaiter(self.reader, {"stocks": "goods"}, self.clock, self._pause)
        self.reader.write("goods", 0, 5)
        self.reader.write("goods", 1, 5)

    async def _pause(self, arrived: asyncio.Event) -> None:
        self.paused.set()
        waits = [asyncio.create_task(event.wait()) for event in (arrived, self.ticks)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        self.ticks.clear()

    async def asked(self) -> int:
        """Wait until it has asked and pauses; return how often it has asked."""
        async with asyncio.timeout(HANGING_S):
            await self.paused.wait()
        return len(self.reader.asked)

    async def tick(self) -> int:
        """Let it ask once more."""
        self.paused.clear()
        self.ticks.set()
        return await self.asked()

    def start(self, text: str, projection: str | None = "stocks", **options: Any) -> asyncio.Task[Any]:
        self.paused.clear()
        return asyncio.create_task(self.waiter.reached(parse_seen(text), projection, **options))


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def refusal(asking: Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        await asking
    return refused.value


async def turns(number: int) -> None:
    """Let all that is ready run."""
    for _ in range(number):
        await next_turn()


async def test_without_a_token_nothing_is_asked(bench: Bench) -> None:
    assert await bench.waiter.reached({}, "stocks") == Reached()
    assert bench.reader.asked == []


async def test_facts_and_state_show_what_the_ledger_has(bench: Bench) -> None:
    assert await bench.waiter.reached(parse_seen("goods.0=5, goods.1=3"), None) == Reached()
    assert bench.reader.asked == [{ProgressKey("goods", 0), ProgressKey("goods", 1)}]
    assert bench.waiter.waiting == 0


async def test_a_read_model_is_waited_for_only_in_lanes_that_it_folds(bench: Bench) -> None:
    bench.reader.write("users", 0, 9)
    reading = bench.start("goods.0=4, users.0=9")
    assert await bench.asked() == 1
    assert bench.reader.asked[0] == {STOCKS, ProgressKey("users", 0)}
    bench.reader.folded[STOCKS] = 3
    assert await bench.tick() == 2
    assert not reading.done()
    bench.reader.folded[STOCKS] = 4
    bench.ticks.set()
    assert await reading == Reached()
    assert len(bench.reader.asked) == 3


async def test_before_a_process_ends_its_readers_are_told_how_far_it_is(bench: Bench) -> None:
    """Those that wait longer than that, and those that come later."""
    reading = bench.start("goods.0=5", wait_s=30.0)
    await bench.asked()
    bench.waiter.end_within(4.0)
    bench.clock.at_s += 3.9
    await bench.tick()
    assert not reading.done()
    bench.clock.at_s += 0.1
    bench.ticks.set()
    assert (await refusal(reading)).request_code is RequestCode.BEHIND
    late = await refusal(bench.start("goods.0=5", wait_s=30.0))
    assert late.request_code is RequestCode.BEHIND


async def test_all_that_wait_are_asked_about_at_once(bench: Bench) -> None:
    readings = [bench.start(f"goods.{number % 2}={number % 5 + 1}") for number in range(200)]
    assert await bench.asked() == 1
    assert bench.reader.asked[0] == {STOCKS, ProgressKey("goods", 1, "stocks")}
    assert await bench.tick() == 2
    bench.reader.folded = {STOCKS: 5, ProgressKey("goods", 1, "stocks"): 5}
    bench.ticks.set()
    assert await asyncio.gather(*readings) == [Reached()] * 200
    assert len(bench.reader.asked) == 3


async def test_a_new_reader_does_not_wait_for_the_tick(bench: Bench) -> None:
    late = bench.start("goods.0=5")
    await bench.asked()
    assert await bench.waiter.reached(parse_seen("goods.1=5"), None) == Reached()
    assert not late.done()
    late.cancel()


async def test_nothing_is_asked_for_a_client_that_left(bench: Bench) -> None:
    readings = [bench.start("goods.0=5") for _ in range(3)]
    assert await bench.asked() == 1
    for reading in readings:
        reading.cancel()
    await asyncio.gather(*readings, return_exceptions=True)
    assert bench.waiter.waiting == 0
    bench.ticks.set()
    await turns(10)
    assert len(bench.reader.asked) == 1
    again = bench.start("goods.0=5", None)
    assert await again == Reached()


async def test_what_is_not_reached_in_time_is_refused_with_how_far_it_is(bench: Bench) -> None:
    bench.reader.folded[STOCKS] = 3
    reading = bench.start("goods.0=5, goods.1=2", wait_s=1.5)
    await bench.asked()
    bench.clock.at_s += 1.4
    bench.reader.folded[ProgressKey("goods", 1, "stocks")] = 2
    await bench.tick()
    assert not reading.done()
    bench.clock.at_s += 0.1
    bench.ticks.set()
    refused = await refusal(reading)
    assert (refused.code, refused.retry_after_s) == (RequestCode.BEHIND, 1.0)
    assert refused.detail == "not reached within 1.5 s: goods.0 is at 3, asked for is 5"


async def test_a_stale_answer_says_how_far_it_is(bench: Bench) -> None:
    behind = await bench.waiter.reached(parse_seen("goods.0=5"), "stocks", 0.0, stale_ok=True)
    assert isinstance(behind, Behind)
    assert behind.header == "goods.0=0"
    assert behind.wanted == {SeenLane("goods", 0): SeenNumber(1, 5)}


async def test_a_wait_is_at_most_half_a_minute(bench: Bench) -> None:
    reading = bench.start("goods.0=5", wait_s=1e9)
    await bench.asked()
    bench.clock.at_s += 30
    bench.ticks.set()
    assert (await refusal(reading)).code is RequestCode.BEHIND


@pytest.mark.parametrize("text", ["goods.0=6", "goods.7=1", "bads.0=1", "goods.0=1;t=2"])
async def test_what_does_not_exist_is_refused_without_a_wait(bench: Bench, text: str) -> None:
    for projection in (None, "stocks"):
        refused = await refusal(bench.waiter.reached(parse_seen(text), projection))
        assert (refused.code, refused.detail) == (
            RequestCode.BAD_TOKEN,
            f"Tidemill-Seen names {text}, which does not exist",
        )
    assert len(bench.reader.asked) == 2


async def test_a_lane_that_may_not_be_known_does_not_exist(bench: Bench) -> None:
    """In words, and in what is asked of the database."""
    hidden = await refusal(
        bench.waiter.reached(parse_seen("goods.0=5"), None, visible=lambda aggregate: aggregate != "goods")
    )
    absent = await refusal(bench.waiter.reached(parse_seen("bads.0=5"), None, visible=lambda _: False))
    assert hidden.detail.replace("goods", "bads") == absent.detail
    assert hidden.code is RequestCode.BAD_TOKEN
    assert bench.reader.asked == [{ProgressKey("", 0)}] * 2


async def test_a_withdrawn_number_is_refused_even_while_it_is_waited_for(bench: Bench) -> None:
    reading = bench.start("goods.0=5")
    await bench.asked()
    bench.reader.fork("goods", 0, HistoryFork(2, 3, 5), 5)
    bench.ticks.set()
    refused = await refusal(reading)
    assert (refused.code, refused.detail) == (
        RequestCode.WITHDRAWN,
        "goods.0=5 was withdrawn by a reconciliation",
    )


async def test_a_number_that_a_halted_lane_lacks_is_not_decided(bench: Bench) -> None:
    lane = SeenLane("goods", 0)
    bench.reader.lanes[lane] = replace(bench.reader.lanes[lane], halted=True)
    assert await bench.waiter.reached(parse_seen("goods.0=5"), None) == Reached()
    refused = await refusal(bench.waiter.reached(parse_seen("goods.0=6"), None))
    assert (refused.code, refused.retry_after_s) == (RequestCode.LANE_HALTED, 1.0)


async def test_an_unavailable_database_is_said_to_all_that_wait_and_the_next_one_asks_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(_: object) -> None:
        raise Unavailable("database", "down")

    with monkeypatch.context() as patched:
        patched.setattr(bench.reader, "progress", unavailable)
        readings = [bench.start("goods.0=5", None) for _ in range(3)]
        answers = await asyncio.gather(*readings, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Unavailable] * 3
    assert await bench.waiter.reached(parse_seen("goods.0=5"), None) == Reached()


async def test_every_lane_is_listed_and_more_than_a_token_names_is_refused(bench: Bench) -> None:
    bench.reader.folded[STOCKS] = 2
    assert await bench.waiter.lanes_of("goods", None) == parse_seen("goods.0=5, goods.1=5")
    assert await bench.waiter.lanes_of("goods", "stocks") == parse_seen("goods.0=2")
    for partition in range(65):
        bench.reader.write("goods", partition, 1)
    assert (await refusal(bench.waiter.lanes_of("goods", None))).code is RequestCode.BAD_PARAMETER


@pytest.mark.parametrize("run", range(10))
async def test_no_reader_is_answered_before_its_token_is_shown(bench: Bench, run: int, seed: int) -> None:
    """Writers, projectors, readers that come and leave, in any order."""
    random = Random(f"{seed} {run}")
    written, folded = {0: 5, 1: 5}, {0: 0, 1: 0}
    readings: dict[asyncio.Task[Any], tuple[int, int]] = {}
    for _ in range(120):
        partition = random.randrange(2)
        match random.randrange(5):
            case 0:
                written[partition] += 1
                bench.reader.write("goods", partition, written[partition])
            case 1 if folded[partition] < written[partition]:
                folded[partition] += 1
                bench.reader.folded[ProgressKey("goods", partition, "stocks")] = folded[partition]
            case 2:
                wanted = random.randint(1, written[partition])
                readings[bench.start(f"goods.{partition}={wanted}")] = (partition, wanted)
            case 3 if readings:
                leaving = random.choice(list(readings))
                leaving.cancel()
                await asyncio.wait([leaving])
                readings.pop(leaving)
            case _:
                bench.ticks.set()
                await turns(20)
        for reading in [reading for reading in readings if reading.done()]:
            partition, wanted = readings.pop(reading)
            assert reading.result() == Reached()
            assert folded[partition] >= wanted
    for reading in readings:
        reading.cancel()
    await asyncio.gather(*readings, return_exceptions=True)
