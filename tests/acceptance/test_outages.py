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
