"""Servers go away under load: processes say so, wait, go on by themselves, and can be ended meanwhile, in peace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest

from tests.support.clients.clients import Feed
from tests.support.clients.journeys import Deployment, Worker
from tests.support.http.api import Api, Granted, bearer, new_key, plain_client, tick
from tests.support.seeds import sample
from tests.support.waiting import eventually_blocking
from tidemill.runtime.service import Exit
from tidemill_devkit.stack import Stack
from tidemill_devkit.stack.plan import Server

pytestmark = [pytest.mark.breaks_servers, pytest.mark.slow]

MAX_LINES = 30
"""What a process may tell of one outage, however long it takes. The client's own flood has tests of its own."""


@dataclass(frozen=True)
class Outage:
    """How servers go away. `dependency`: what `/health` calls the one; `leaving`: the processes that are ended in it.

    `silent`: the servers take calls, and answer none.
    """

    servers: Sequence[str]
    dependency: str
    breaking: Callable[[Server], None]
    leaving: Sequence[str]
    silent: bool = False

    def __str__(self) -> str:
        return f"{self.servers}, {self.breaking.__name__}"


def kill(server: Server) -> None:
    server.kill()


def freeze(server: Server) -> None:
    server.freeze()


def stop(server: Server) -> None:
    server.stop()


OUTAGES = [
    Outage(["kafka"], "kafka", kill, ["all", "projections"]),
    Outage(["kafka"], "kafka", freeze, ["all", "commands", "projections"], silent=True),
    Outage(["postgres"], "database", stop, []),
    Outage(["postgres"], "database", kill, ["all", "projections"]),
    Outage(["postgres"], "database", freeze, ["all", "commands", "projections"], silent=True),
    Outage(["postgres", "kafka"], "database", freeze, ["all", "projections"], silent=True),
]


@pytest.mark.parametrize("partitions", [4])
def test_load_goes_on_through_outage_after_outage_and_balances_afterwards(
    breakable_deployment: Deployment, breakable_stack: Stack
) -> None:
    deployment = breakable_deployment
    outages = sample(OUTAGES, 3)
    survivor = deployment.launch("all")
    feed = Feed(deployment.client, deployment.topics.commands, deployment.next_tick, per_second=50)
    with feed.running():
        for outage in outages:
            leaving = [deployment.launch(process) for process in outage.leaving]
            for worker in (survivor, *leaving):
                worker.await_well()
            await_more(deployment, 50)
            live_through(
                outage, [breakable_stack.servers[name] for name in outage.servers], survivor, leaving
            )
        survivor.await_well()
        await_more(deployment, 50)
    deployment.await_consumed(len(feed.acknowledged))
    deployment.assert_conserved(feed.acknowledged, projecting=True)
    deployment.assert_balanced_by_an_outsider()
    assert survivor.stop() == 0
    told = Counter(line["event"] for line in survivor.lines() if line["logger"].startswith("tidemill."))
    assert told.total() < MAX_LINES * len(outages), told


# --- writes over HTTP ------------------------------------------------------------------------------------------------

IN_FLIGHT = 9
PREFERRED = ("respond-async", "wait=1", "wait=30")


def test_who_writes_is_answered_before_a_process_ends_though_kafka_is_away(
    breakable_deployment: Deployment, breakable_stack: Stack
) -> None:
    """An acknowledgement may take longer than a stop: it is told that the write may have arrived, and counts once."""
    api = Api(breakable_deployment)
    token, server = api.add_principal("store", Granted("*")), api.serve()
    url, keys = api.url(), [new_key() for _ in range(IN_FLIGHT)]
    body = tick("OUT", time="2026-11-30T10:00:00Z")

    def write(key: str, prefer: str) -> tuple[int, str | None]:
        headers = bearer(token) | {"Idempotency-Key": key, "Prefer": prefer}
        response = client.post(f"{url}/api/db/market-data", json=body, headers=headers)
        return response.status_code, response.json().get("retry")

    with plain_client() as client, ThreadPoolExecutor(IN_FLIGHT) as threads:
        assert write(new_key(), "respond-async")[0] == 202  # now it is connected
        breakable_stack.kafka.freeze()
        sent = [threads.submit(write, key, PREFERRED[place % 3]) for place, key in enumerate(keys)]
        eventually_blocking(lambda: in_flight(server) == IN_FLIGHT, what="writes in flight")
        code = server.stop()
        assert {answer.result() for answer in sent} == {(503, "same-key")}
        assert code == Exit.DRAINED, server.log.read_text()
        breakable_stack.kafka.thaw()
        api.serve()
        breakable_deployment.start("commands")
        url = api.url(1)
        assert {write(key, "wait=30")[0] for key in keys} == {201}
    rows = breakable_deployment.rows()
    assert {rows[key] for key in keys} == {1}


def in_flight(server: Worker) -> int:
    _, content = server.health()
    return int(content["services"]["http"]["http"]["in_flight"])


def await_more(deployment: Deployment, records: int) -> None:
    deployment.await_consumed(deployment.consumed() + records)


def live_through(
    outage: Outage, servers: Sequence[Server], survivor: Worker, leaving: Sequence[Worker]
) -> None:
    """The first process is told to end before it can know of the outage, the others when they do."""
    hasty, patient = leaving[:1], leaving[1:]
    with ThreadPoolExecutor(4) as threads:
        for server in servers:
            outage.breaking(server)
        drains = [threads.submit(worker.stop) for worker in hasty]
        for worker in (survivor, *patient):
            missed = partial(says_away, worker, outage.dependency)
            eventually_blocking(missed, what=f"an outage to be said ({outage})")
        drains += [threads.submit(worker.stop) for worker in patient]
        ended = [drain.result() for drain in drains]
    for worker, code in zip(leaving, ended, strict=True):
        assert code == Exit.DRAINED, f"{outage}: {worker.log.read_text()}"  # in its time, or it is CUT_OFF
        assert_said_what_was_left(worker, outage)
    for server in servers:
        server.start()


def says_away(worker: Worker, dependency: str) -> bool:
    status, content = worker.health()
    return status == 503 and not content["dependencies"][dependency]["ok"]


def assert_said_what_was_left(worker: Worker, outage: Outage) -> None:
    """A database that does not answer is cut off; otherwise it is told that the lanes are free, if it is there."""
    cut_off = bool(worker.said("database_cut_off"))
    assert cut_off is (outage.silent and outage.dependency == "database"), outage
    released = {line["released"] for line in worker.said("lanes_lost")[-1:]}
    assert released <= {outage.dependency == "kafka"}, outage
