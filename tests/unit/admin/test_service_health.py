"""Health, statistics, migrations, performance and connections: right, bounded, and for those who may see them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from tests.fakes.service import MemoryPools, MemoryServer, MemoryTables, pool_status
from tests.support.waiting import next_turn
from tests.unit.admin.audit.test_balance import AT, lane_state
from tests.unit.admin.test_read_models import CATALOG
from tidemill.admin.ports import LaneReader, ReadModelStates
from tidemill.admin.rows import ProjectionState
from tidemill.admin.service.collection_schema import place_of
from tidemill.admin.service.health import HealthReader, is_serving
from tidemill.admin.service.migrations import MigrationOverview
from tidemill.admin.service.performance import ConnectionOverview, PerformanceReader, PoolWatch
from tidemill.admin.service.query_records import QueryOperation, QueryRecorder, QueryRun
from tidemill.admin.service.rows import ServerFacts, TableSize
from tidemill.admin.service.statistics import StatisticsReader
from tidemill.admin.setup.revisions import MigrationInfo
from tidemill.contexts.market_data import context as market_data
from tidemill.domain.collection import Collection, CollectionKind
from tidemill.domain.errors import RequestRefused, TidemillError, Unavailable
from tidemill.domain.request_codes import RequestCode
from tidemill.runtime.kept_answer import KeptAnswer
from tidemill.runtime.telemetry.metrics import REGISTRY
from tidemill.security.principals import ALL_COLLECTIONS, Grant, Principal, PrincipalKind, Verb

OPERATOR = Principal(
    "ops", PrincipalKind.PERSON, {ALL_COLLECTIONS: Grant(frozenset({Verb.READ, Verb.OPERATE}))}
)
SERVICE = Principal("billing", PrincipalKind.SERVICE, {ALL_COLLECTIONS: Grant(frozenset({Verb.READ}))})


class MovedClock:
    def __init__(self) -> None:
        self.at_s = 1_000.0

    def now(self) -> datetime:
        return datetime(2026, 12, 1, tzinfo=UTC) + timedelta(seconds=self.at_s)

    def monotonic_s(self) -> float:
        return self.at_s


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


def health(server: Any, clock: MovedClock, *missing: str, ask_s: float = 300.0) -> HealthReader:
    pools = MemoryPools([pool_status("read", checked_out=1, checked_in=7)])
    return HealthReader(server=server, pools=pools, clock=clock, missing=lambda: missing, ask_s=ask_s)


async def test_a_healthy_service_says_so(clock: MovedClock) -> None:
    found = await health(MemoryServer(), clock).read()
    assert (found.status, found.database_connected, found.timescaledb_available) == ("healthy", True, True)
    assert (found.active_connections, found.timestamp, found.problems) == (1, clock.now(), [])
    assert found.connection_pool_status["read"]["checked_out"] == 1
    assert is_serving(found)


@pytest.mark.parametrize(
    ("server", "missing", "status", "connected"),
    [
        (MemoryServer(), ["kafka", "database"], "degraded", True),
        (MemoryServer(ServerFacts("tidemill", None, 1)), [], "degraded", True),
        (
            MemoryServer(error=RequestRefused(RequestCode.OVERLOADED, "all connections are in use")),
            [],
            "degraded",
            True,
        ),
        (MemoryServer(error=Unavailable("database", "connection refused")), [], "unhealthy", False),
    ],
    ids=["another server", "no timescaledb", "overload", "no database"],
)
async def test_what_is_wrong_is_said(
    clock: MovedClock, server: MemoryServer, missing: list[str], status: str, connected: bool
) -> None:
    found = await health(server, clock, *missing).read()
    assert (found.status, found.database_connected) == (status, connected)
    assert len(found.problems) == 1
    assert is_serving(found) == (status == "degraded")


async def test_health_is_asked_once_a_second_however_many_want_it(clock: MovedClock) -> None:
    server = MemoryServer()
    reader = health(server, clock)
    answers = await asyncio.gather(*(reader.read() for _ in range(50)))
    assert (server.asked, len({id(answer) for answer in answers})) == (1, 1)
    clock.at_s += 0.9
    await reader.read()
    assert server.asked == 1
    clock.at_s += 0.1
    await reader.read()
    assert server.asked == 2


class FrozenServer:
    """It answers when it is let, and a question cannot be taken back: as a driver that waits for a silent server."""

    def __init__(self) -> None:
        self.thawed = asyncio.Event()
        self.asked = 0

    async def server(self) -> ServerFacts:
        self.asked += 1
        while not self.thawed.is_set():
            try:
                await self.thawed.wait()
            except asyncio.CancelledError:
                continue
        return ServerFacts("tidemill", "2.22.0", 1)


async def test_a_frozen_server_is_not_waited_for_and_not_asked_again(clock: MovedClock) -> None:
    server = FrozenServer()
    reader = health(server, clock, ask_s=0.01)
    for _ in range(3):
        found = await reader.read()
        assert (found.status, found.problems) == ("unhealthy", ["the database did not answer within 0.01 s"])
        clock.at_s += 2
    assert server.asked == 1
    server.thawed.set()
    await next_turn()
    clock.at_s += 2
    assert (await reader.read()).status == "healthy"
    await reader.close()


async def test_a_late_error_of_a_frozen_server_is_heard(clock: MovedClock) -> None:
    server = MemoryServer(error=Unavailable("database", "it was restarted"))
    reader = health(server, clock)
    assert (await reader.read()).problems == ["database is not available: it was restarted"]
    server.error = None
    clock.at_s += 2
    assert (await reader.read()).status == "healthy"


async def test_an_error_is_not_kept(clock: MovedClock) -> None:
    answers: list[Any] = [TidemillError("once"), 7]

    async def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    kept = KeptAnswer(ask, clock, max_age_s=60)
    with pytest.raises(TidemillError, match="once"):
        await kept.get()
    assert await kept.get() == 7
    assert await kept.get() == 7


# --- what is for operators -------------------------------------------------------------------------------------------


def revision(name: str, number: int, *, applied: bool = True, current: bool = False) -> MigrationInfo:
    return MigrationInfo(f"{name}_{number:04d}", name, f"step {number}", AT if applied else None, current)


class History:
    def __init__(self) -> None:
        self.asked = 0

    async def status(self) -> list[MigrationInfo]:
        self.asked += 1
        return [
            revision("core", 1),
            revision("core", 2, current=True),
            revision("core", 3, applied=False),
            revision("market_data", 1, current=True),
        ]


async def test_revisions_come_in_pages_that_meet(clock: MovedClock) -> None:
    overview, seen, after = MigrationOverview(History(), clock), [], None
    while True:
        page = await overview.page(OPERATOR, after=after, limit=3)
        seen += [one.revision for one in page.migrations]
        after = page.next
        if after is None:
            break
    assert seen == ["core_0001", "core_0002", "core_0003", "market_data_0001"]
    whole = await overview.page(OPERATOR, limit=4)
    assert whole.next is None


async def test_the_state_of_a_branch_is_its_head_and_what_is_pending(clock: MovedClock) -> None:
    history = History()
    overview = MigrationOverview(history, clock)
    state = await overview.state(OPERATOR)
    core, market = state.branches
    assert (core.service_name, core.head, core.current, core.pending) == (
        "core",
        "core_0003",
        "core_0002",
        ["core_0003"],
    )
    assert (market.head, market.current, market.pending) == ("market_data_0001", "market_data_0001", [])
    assert not state.up_to_date
    await overview.state(OPERATOR)
    assert history.asked == 1
    clock.at_s += 5
    await overview.state(OPERATOR)
    assert history.asked == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"after": "core_9999"}, RequestCode.BAD_PARAMETER),
        ({"limit": 0}, RequestCode.LIMIT_TOO_LARGE),
        ({"limit": 1_001}, RequestCode.LIMIT_TOO_LARGE),
    ],
)
async def test_a_page_that_is_not_there_is_refused(
    clock: MovedClock, arguments: dict[str, Any], code: RequestCode
) -> None:
    with pytest.raises(RequestRefused) as refused:
        await MigrationOverview(History(), clock).page(OPERATOR, **arguments)
    assert refused.value.request_code is code
    assert len(refused.value.faults) == 1


def performance(clock: MovedClock) -> PerformanceReader:
    recorder = QueryRecorder(clock)
    for seconds, hit in [(0.1, False), (0.3, True)]:
        run = QueryRun(
            collection="market-data",
            operation=QueryOperation.FIND,
            pattern="a",
            seconds=seconds,
            cache_hit=hit,
        )
        recorder.note(recorder.query("billing"), run)
    recorder.note_command("billing", "market-data", QueryOperation.INSERT, 0.05, rows=1, failed=False)
    pools = MemoryPools(
        [pool_status("read", checked_in=5, checked_out=2), pool_status("count", checked_in=1)]
    )
    return PerformanceReader(records=recorder, pools=pools, clock=clock)


async def test_performance_is_that_of_the_last_minute(clock: MovedClock) -> None:
    reader = performance(clock)
    found = await reader.read(OPERATOR)
    assert (found.total_queries, found.total_commands, found.cache_hit_rate) == (2, 1, 0.5)
    assert [found.avg_query_time, found.avg_command_time] == pytest.approx([0.2, 0.05])
    assert (found.active_connections, found.total_connections) == (2, 8)
    assert [(one.operation, one.count) for one in found.operations] == [("find", 2), ("insert", 1)]
    clock.at_s += 60
    later = await reader.read(OPERATOR)
    assert (later.total_queries, later.avg_query_time, later.cache_hit_rate, later.operations) == (
        0,
        0,
        0,
        [],
    )


async def test_connections_are_shown_with_their_configuration(clock: MovedClock) -> None:
    pools = MemoryPools([pool_status("read"), pool_status("count", size=2)])
    report = await ConnectionOverview(pools=pools, clock=clock).read(OPERATOR)
    assert [pool.name for pool in report.pools] == ["read", "count"]
    assert [one.pool_size for one in report.connections] == [8, 2]


async def test_pools_are_metrics(clock: MovedClock) -> None:
    watch = PoolWatch(MemoryPools([pool_status("trial", checked_in=3, checked_out=4, overflow=2)]))
    await watch.look()
    values = {
        state: REGISTRY.get_sample_value("tidemill_pool_connections", {"pool": "trial", "state": state})
        for state in ("idle", "lent", "overflow")
    }
    assert values == {"idle": 3, "lent": 4, "overflow": 2}


TABLE = market_data.commands[0].appends_to
assert TABLE is not None
COLLECTIONS = {
    "market-data": Collection(
        name="market-data",
        kind=CollectionKind.FACTS,
        aggregate="market-data",
        table=TABLE,
        time_column="time",
    ),
    "latest-quotes": Collection(
        name="latest-quotes",
        kind=CollectionKind.READ_MODEL,
        aggregate="market-data",
        table=market_data.projections[0].table,
        key=("symbol",),
        projection="latest-quotes",
    ),
}


class Lanes:
    async def lanes(self) -> list[Any]:
        return [lane_state(1, position=10, sequence=8), lane_state(2, position=5, sequence=2)]

    async def projections(self) -> list[ProjectionState]:
        return [ProjectionState("latest-quotes", "market-data", 1, "public.live", AT, None, {0: 5, 1: 2}, [])]


def statistics(clock: MovedClock) -> StatisticsReader:
    sizes = {place_of(COLLECTIONS["market-data"]): TableSize(1_000, 65_536, 3)}
    return StatisticsReader(
        collections=COLLECTIONS,
        catalog=CATALOG,
        tables=MemoryTables(table_sizes=sizes),
        lanes=cast("LaneReader", Lanes()),
        read_models=cast("ReadModelStates", Lanes()),
        clock=clock,
    )


async def test_statistics_are_of_collections_and_lanes(clock: MovedClock) -> None:
    stats = await statistics(clock).read(OPERATOR)
    quotes, ticks = stats.collections
    assert (ticks.name, ticks.estimated_rows, ticks.bytes, ticks.chunks, ticks.lag) == (
        "market-data",
        1_000,
        65_536,
        3,
        None,
    )
    assert (quotes.name, quotes.estimated_rows, quotes.bytes, quotes.lag) == ("latest-quotes", None, 0, 3)
    (lanes,) = stats.lanes
    assert (lanes.aggregate, lanes.lanes, lanes.events, lanes.halted) == ("market-data", 2, 10, 0)


async def test_what_is_for_operators_is_refused_to_others(clock: MovedClock) -> None:
    overview = MigrationOverview(History(), clock)
    pools = MemoryPools()
    asked = [
        overview.page(SERVICE),
        overview.state(SERVICE),
        performance(clock).read(SERVICE),
        ConnectionOverview(pools=pools, clock=clock).read(SERVICE),
        statistics(clock).read(SERVICE),
    ]
    for question in asked:
        with pytest.raises(RequestRefused) as refused:
            await question
        assert refused.value.request_code is RequestCode.FORBIDDEN
