"""What one process holds at its servers: bounded, however many streams it has."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from tests.support.clients.clients import TIMEOUT_S, Client
from tests.support.plug_ins import many_contexts
from tests.support.servers.installation import Installation, Serving, installation_on
from tests.support.waiting import eventually_blocking
from tidemill.domain.lane import StreamTopics
from tidemill_devkit.stack import Stack

STREAMS, LANES = 16, 8
GENERATED = STREAMS - 2  # beside the contexts that are built in
EACH = 100
MAX_CONNECTIONS = 60
MAX_FILES = 100 + 6 * STREAMS * LANES
BUILT_IN = {
    "RecordMarketData": '{"symbol": "A", "time": "2013-02-01T00:00:00Z", "price": 1, "source": "test"}',
    "RegisterConnectorProfile": '{"profile_id": "p1", "name": "One", "profile_data": "{}"}',
}

CONNECTIONS = """
    select count(*) as held from pg_stat_activity
    where datname = current_database() and application_name like 'tidemill %'"""


@pytest.fixture
def many(
    stack: Stack,
    database: str,
    unique_name: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Installation]:
    """A deployment of sixteen streams, prepared."""
    folder = tmp_path / "plug-in"
    aggregates = many_contexts.install(folder, GENERATED)
    monkeypatch.syspath_prepend(folder)
    made = installation_on(stack, database, unique_name("many"), tmp_path, LANES).environment
    installation = Installation({**made, "TIDEMILL_REGISTRY_URL": "", "PYTHONPATH": str(folder)}, tmp_path)
    installation.execute(*map(many_contexts.table_of, aggregates))
    installation("topics", "create")
    yield installation
    Client(stack.kafka_bootstrap).delete_all(installation.prefix)


def flowing(serving: Serving) -> int:
    return sum(
        service["intake"]["lanes"]
        for service in serving.health()[1]["services"].values()
        if "intake" in service
    )


def publish_to_all(installation: Installation, client: Client) -> int:
    """Send commands to every stream, and to every lane of the generated ones; return how many."""
    producer = client.producer()
    for aggregate in many_contexts.aggregates(GENERATED):
        topic = StreamTopics.of(aggregate, prefix=installation.prefix).commands
        for number in range(EACH):
            record = many_contexts.keep(aggregate, f"note {number}", str(uuid4()))
            producer.produce(topic, record.value, record.key)
    assert producer.flush(TIMEOUT_S) == 0, "records were not acknowledged"
    for command, fields in BUILT_IN.items():
        installation("publish", command, "-", stdin=fields)
    return GENERATED * EACH + len(BUILT_IN)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sixteen_streams_of_eight_lanes_share_connections_and_workers(
    many: Installation, stack: Stack
) -> None:
    with many.serving("commands") as serving:
        eventually_blocking(lambda: flowing(serving) == STREAMS * LANES, what="all lanes")
        process = psutil.Process(serving.process.pid)

        def held() -> tuple[int, int]:
            return many.fetch(CONNECTIONS)[0]["held"], process.num_fds()

        at_rest = held()
        sent = publish_to_all(many, Client(stack.kafka_bootstrap))
        applied = lambda: many.fetch("select sum(applied) as n from tm.batch")[0]["n"] == sent
        eventually_blocking(applied, what="all commands to be applied")
        eventually_blocking(lambda: all_published(many), what="all events to be published")
        under_load = held()  # a pool keeps for minutes what it once needed
        for connections, files in (at_rest, under_load):
            assert connections <= MAX_CONNECTIONS
            assert files <= MAX_FILES
        assert_shown(many, serving)
        assert serving.stop() == 0
    assert not many("status", "--json", expect=None).json()["processes"]


def assert_shown(installation: Installation, serving: Serving) -> None:
    """The process tells of itself, in `status` and in its health; its limit is what the system grants at most."""
    _, content = serving.health()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert content["file_limit"] == most
    assert 0 < content["open_files"] <= MAX_FILES
    (shown,) = installation("status", "--json", expect=None).json()["processes"]
    assert f" {serving.process.pid} " in shown["process"]
    assert 0 < shown["connections"] <= MAX_CONNECTIONS
    assert 0 < shown["open_files"] <= MAX_FILES
    assert shown["file_limit"] == most
    assert shown["process"].removeprefix("tidemill ") in installation("status", expect=None).out


def all_published(installation: Installation) -> bool:
    streams = installation("status", "--json", expect=None).json()["streams"]
    return bool(streams) and not any(stream["unpublished"] for stream in streams)
