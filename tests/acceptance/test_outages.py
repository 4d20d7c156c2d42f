"""A server goes away under load: processes say so, wait, go on by themselves, and can be ended meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic

import pytest

from tests.support.clients import Feed
from tests.support.journeys import Deployment, Worker
from tests.support.waiting import eventually_blocking
from tidemill.devstack import Stack
from tidemill.devstack.plan import Server

pytestmark = [pytest.mark.breaks_servers, pytest.mark.slow, pytest.mark.timeout(180)]

NOTICED_S = 15.0
"""A server is asked every 2 s, and has 2 s to answer; the rest is the machine's."""

RECOVERED_S = 60.0
DRAIN_S = 10.0

Breaking = Callable[[Server], None]


def freeze(server: Server) -> None:
    server.freeze()


def kill(server: Server) -> None:
    server.kill()


def stop(server: Server) -> None:
    server.stop()


def says(worker: Worker, server: str, *, away: bool) -> bool:
    status, content = worker.health()
    return content["dependencies"][server]["ok"] is not away and (status == 503) is away


@pytest.mark.parametrize(
    ("name", "server", "breaking"),
    [
        pytest.param("kafka", "kafka", kill, id="the broker is killed"),
        pytest.param("kafka", "kafka", freeze, id="the broker freezes"),
        pytest.param("database", "postgres", stop, id="the database is stopped"),
        pytest.param("database", "postgres", kill, id="the database is killed"),
    ],
)
def test_an_outage_under_load_is_said_waited_for_and_balances_afterwards(
    breakable_deployment: Deployment, breakable_stack: Stack, name: str, server: str, breaking: Breaking
) -> None:
    deployment, broken = breakable_deployment, breakable_stack.servers[server]
    worker, short_lived = deployment.launch("all"), deployment.launch()
    worker.await_well()
    short_lived.await_well()
    feed = Feed(deployment.client, deployment.topics.commands, deployment.next_tick, per_second=200)
    with feed.running():
        deployment.await_consumed(200)
        breaking(broken)
        for each in (worker, short_lived):
            eventually_blocking(partial(says, each, name, away=True), NOTICED_S, f"{name} to be missed")
        began = monotonic()
        assert short_lived.stop(DRAIN_S + 2) == 0, "it drains without the server"
        assert monotonic() - began < DRAIN_S
        broken.start()
        eventually_blocking(
            lambda: says(worker, name, away=False), RECOVERED_S, "the process to be well again"
        )
        done = deployment.consumed()
        deployment.await_consumed(done + 200)
    deployment.await_consumed(len(feed.acknowledged))
    deployment.assert_conserved(feed.acknowledged, projecting=True)
    assert worker.process.poll() is None
    assert worker.stop() == 0
