"""A process whose servers go away says so, goes on by itself when they are back, and can always be stopped in time."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from tests.support.clients.clients import Client
from tests.support.clients.journeys import SESSION_S
from tests.support.faults.held_copies import HeldCopies
from tests.support.seeds import sample
from tests.support.servers.databases import execute
from tests.support.servers.installation import Installation, Serving
from tests.support.waiting import HANGING_S, eventually, eventually_blocking
from tidemill.domain.errors import Unavailable
from tidemill.runtime.service import Exit
from tidemill.storage.database.pool import Pool, close_pool, connection, create_pool
from tidemill_devkit.stack import Stack
from tidemill_devkit.stack.plan import Server

pytestmark = [pytest.mark.breaks_servers, pytest.mark.slow]

MAX_LINES = 60
"""What a process may tell of an outage, fewer than its lanes are. The client's own flood has tests of its own."""
BREAK: dict[str, Callable[[Server], None]] = {
    "killed": lambda server: server.kill(),
    "frozen": lambda server: server.freeze(),
}


def send(installation: Installation, *prices: int) -> None:
    lines = [
        json.dumps({"symbol": "AAPL", "time": "2013-02-01T00:00:00Z", "price": price, "source": "test"})
        for price in prices
    ]
    installation("publish", "RecordMarketData", "-", "--wait", stdin="\n".join(lines))


def ill_with(serving: Serving, dependency: str) -> bool:
    status, content = serving.health()
    return status == 503 and not content["dependencies"][dependency]["ok"]


@pytest.mark.parametrize(
    ("server", "how"),
    [("kafka", "killed"), ("kafka", "frozen"), ("postgres", "killed"), ("postgres", "frozen")],
)
def test_it_can_be_stopped_while_a_server_is_away(
    breakable: Installation, breakable_stack: Stack, server: str, how: str
) -> None:
    """With nothing in flight; under load, and for all processes: see the journey through the outages."""
    dependency = {"kafka": "kafka", "postgres": "database"}[server]
    with breakable.serving() as serving:
        send(breakable, 1)
        BREAK[how](getattr(breakable_stack, server))
        eventually_blocking(lambda: ill_with(serving, dependency), what=f"{dependency} to be missed")
        assert serving.stop() == Exit.DRAINED


def test_it_can_be_started_before_its_servers(breakable: Installation, breakable_stack: Stack) -> None:
    breakable_stack.kafka.kill()
    breakable_stack.postgres.kill()
    with breakable.starting() as serving:
        eventually_blocking(lambda: serving.address, what="an address")
        assert serving.health()[0] == 503
        breakable_stack.repair()
        eventually_blocking(serving.well, what="health")
        send(breakable, 1)
        assert serving.stop() == Exit.DRAINED


def test_it_can_be_stopped_before_its_servers_are_there(
    breakable: Installation, breakable_stack: Stack
) -> None:
    breakable_stack.postgres.freeze()
    with breakable.starting() as serving:
        eventually_blocking(lambda: serving.address, what="an address")
        assert serving.stop() == Exit.DRAINED


def test_verbs_say_which_server_is_away(breakable: Installation, breakable_stack: Stack) -> None:
    breakable_stack.kafka.kill()
    told = breakable("status", expect=1)
    assert "to publish" in told.out, "what the database knows is shown"
    assert "kafka is not available" in told.err
    assert breakable("tail", "market-data", "--no-follow", expect=1).err.startswith(
        "Error: kafka is not available"
    )
    breakable_stack.postgres.kill()
    told = breakable("lanes", "list", expect=1)
    assert told.err.startswith("Error: database is not available")
    assert len(told.err.splitlines()) == 2, "what is the matter, and the next step"


async def test_a_server_that_was_fenced_off_is_left_by_who_only_reads_from_it(
    breakable_database: str,
) -> None:
    """Its sessions stay and answer: who only reads would never learn that the writes go elsewhere."""
    pool = await create_pool(breakable_database, application_name="tidemill-tests", size=1)
    execute(
        breakable_database,
        "alter system set default_transaction_read_only = on",
        "select pg_reload_conf()",
    )
    try:
        await eventually(lambda: is_left(pool), HANGING_S, "the session to be left")
    finally:
        execute(
            breakable_database,
            "alter system reset default_transaction_read_only",
            "select pg_reload_conf()",
        )
    await eventually(lambda: works(pool), HANGING_S, "a session at a server that takes writes")
    await close_pool(pool)


async def is_left(pool: Pool) -> bool:
    return not await works(pool)


async def works(pool: Pool) -> bool:
    try:
        async with connection(pool) as borrowed:
            return bool(await borrowed.fetchval("select true"))
    except Unavailable as error:
        if "takes no writes" not in str(error):
            raise
        return False


@pytest.mark.parametrize("partitions", [64])
def test_as_many_lanes_as_there_are_by_default_say_little_and_are_stopped_in_time(
    breakable: Installation, breakable_stack: Stack, partitions: int
) -> None:
    """The broker goes while batches are held, so that the relays of most lanes have what they cannot send."""
    for how in sample(list(BREAK), 1):  # on the same topics: a broker is busy for long with so many
        with breakable.serving(TIDEMILL_KAFKA_SESSION_S=str(SESSION_S)) as serving:
            eventually_blocking(lambda: flowing(serving) == partitions, what="all lanes")
            told_before = break_behind_held_batches(breakable, breakable_stack, serving, how)
            eventually_blocking(lambda: ill_with(serving, "kafka"), what="kafka to be missed")
            eventually_blocking(
                lambda: len(failing(serving)) > partitions // 2, what="most lanes to fail again and again"
            )
            code = serving.stop()
            told = [line for line in serving.lines()[told_before:] if line["logger"].startswith("tidemill.")]
        assert code == Exit.DRAINED, told
        assert "relay_restarted" in {line["event"] for line in told}
        assert len(told) < MAX_LINES, Counter(line["event"] for line in told)
        breakable_stack.repair()
    Client(breakable_stack.kafka_bootstrap).delete_all(breakable.prefix)


def break_behind_held_batches(installation: Installation, stack: Stack, serving: Serving, how: str) -> int:
    """Return how many lines the process had told before."""
    held = HeldCopies(installation.database)
    try:
        send_to_all_lanes(installation)
        held.caught()
        told_before = len(serving.lines())
        BREAK[how](stack.kafka)
    finally:
        held.release()
    return told_before


def send_to_all_lanes(installation: Installation) -> None:
    lines = [
        json.dumps({"symbol": f"S{number}", "time": "2013-02-01T00:00:00Z", "price": 1, "source": "test"})
        for number in range(1_000)
    ]
    installation("publish", "RecordMarketData", "-", stdin="\n".join(lines))


def flowing(serving: Serving) -> int:
    """Return how many lanes of market data are worked: what is sent to another one waits for its claim."""
    _, content = serving.health()
    return int(content["services"]["market-data"].get("intake", {}).get("lanes", 0))


def failing(serving: Serving) -> list[int]:
    """Return the lanes of market data whose relay has failed more than once in a row."""
    _, content = serving.health()
    return list(content["services"]["market-data"]["relays"]["failing"])
