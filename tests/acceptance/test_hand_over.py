"""Lanes change hands while their owner is in the middle of something, frozen, or dead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clients.clients import Feed
from tests.support.clients.journeys import Deployment, Worker
from tests.support.faults.proxy import Proxy, proxied
from tests.support.waiting import HANGING_S, eventually_blocking

WAITS_FOR_THE_REST = """
select pid from pg_stat_activity
where state = 'active' and wait_event = 'ClientRead' and query like 'COPY "tm"."log"%'
"""


@pytest.fixture
def proxy(deployment: Deployment) -> Iterator[Proxy]:
    with proxied(deployment.installation.database) as proxy:
        yield proxy


def shared_by(deployment: Deployment, *workers: Worker) -> bool:
    """Whether each of these processes owns lanes, and nobody else does."""
    owners = [(lane["owner"] or "").split() for lane in deployment.lanes()]
    pids = [str(worker.process.pid) for worker in workers]
    return all(any(pid in owner for owner in owners) for pid in pids) and all(
        any(pid in owner for pid in pids) for owner in owners
    )


def await_shared(deployment: Deployment, *workers: Worker, timeout_s: float = HANGING_S) -> None:
    what = f"the lanes to be shared by {len(workers)}"
    eventually_blocking(lambda: shared_by(deployment, *workers), timeout_s, what)


@pytest.mark.parametrize("partitions", [4])
def test_a_worker_frozen_in_its_copy_is_replaced_and_changes_nothing_when_it_wakes(
    deployment: Deployment, proxy: Proxy
) -> None:
    fetch = deployment.installation.fetch
    proxy.stop_in_next_copy()
    sent = deployment.send(deployment.ticks(200))
    frozen = deployment.start(TIDEMILL_DATABASE_URL=proxy.url, TIDEMILL_COMMANDS_WORKERS="1")
    eventually_blocking(lambda: proxy.stopped, what="a COPY stopped in the middle")
    (backend,) = eventually_blocking(
        lambda: fetch(WAITS_FOR_THE_REST), what="a backend that waits for its rest"
    )
    frozen.freeze()

    heir = deployment.launch()
    await_shared(deployment, heir)
    assert not fetch("select from pg_stat_activity where pid = $1", backend["pid"]), "its backend was ended"
    deployment.await_consumed(len(sent))

    frozen.thaw()
    await_shared(deployment, heir, frozen)
    sent |= deployment.send(deployment.ticks(50))
    deployment.await_consumed(len(sent))
    deployment.assert_conserved(sent)


@pytest.mark.parametrize("outcome", ["committed", "rolled back"])
def test_a_batch_in_flight_is_handed_over_whole(deployment: Deployment, outcome: str) -> None:
    first = deployment.start(TIDEMILL_COMMANDS_WORKERS="1")
    held = deployment.hold_copies()
    sent = deployment.send(deployment.ticks(100))
    held.caught()
    second = deployment.launch()
    if outcome == "committed":
        group = deployment.topics.commands
        eventually_blocking(lambda: len(deployment.client.members(group)) == 2, what="the other to join")
        held.release()
        await_shared(deployment, first, second)
    else:
        await_shared(deployment, first, second)
        assert deployment.consumed() == 0, "the batch is held for longer than its owner may keep the lane"
        held.release()
    deployment.await_consumed(len(sent))
    applied_by = deployment.installation.fetch("select distinct epoch from tm.batch where applied > 0")
    # what came too late for the batch that was held is the heir's in any case
    assert any(row["epoch"] == 1 for row in applied_by) == (outcome == "committed"), "whose claim it was"
    deployment.assert_conserved(sent)


def test_a_process_killed_under_load_is_replaced(deployment: Deployment) -> None:
    survivor, victim = deployment.launch(), deployment.launch()
    survivor.await_well()
    victim.await_well()
    await_shared(deployment, survivor, victim)
    feed = Feed(deployment.client, deployment.topics.commands, deployment.next_tick, per_second=300)
    with feed.running():
        deployment.await_consumed(300)
        victim.kill()
        await_shared(deployment, survivor)
        done = deployment.consumed()
        deployment.await_consumed(done + 300)
    deployment.await_consumed(len(feed.acknowledged))
    deployment.assert_conserved(feed.acknowledged)
    deployment.assert_balanced_by_an_outsider()
    assert survivor.stop() == 0
