"""A process that answers ends, by a stop under load or by kill -9: what it accepted is decided, and in the journal."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.clients.journeys import Worker
from tests.support.faults.deaths import LABEL_FILE
from tests.support.http.api import (
    OWN,
    Api,
    Granted,
    address_of,
    await_answers,
    bearer,
    new_key,
    plain_client,
    served,
    tick,
)
from tests.support.http.sizes import sized
from tests.support.waiting import eventually_blocking
from tidemill_devkit.stack import Stack

WRITES = sized(150, 2_000)
AT_ONCE = 12
ROUNDS = sized(1, 25)

BODY = tick("STOP", time="2026-11-30T10:00:00Z")
"""A repeat of a key has the same content."""

POINTS = ("write:to be journalled", "write:journalled", "write:sent", "write:decided")
"""Where a process is killed: before the journal, before Kafka, before the outcome, and before the answer."""

OPEN_AT: dict[str, set[str]] = {
    "write:to be journalled": {"none"},
    "write:journalled": {"not arrived"},
    "write:sent": {"applied"},
    "write:decided": {"applied", "none"},
}
"""What `audit --journal` says of the write then. `none`: it has no open entry; an outcome may just have been stored."""


@pytest.fixture(scope="module")
def world(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, str]]:
    folder = tmp_path_factory.mktemp("http")
    with (
        new_database() as database,
        served(stack, database, unique_name("http"), folder, {"store": [Granted("*")]}) as (api, tokens),
    ):
        yield api, tokens["store"]


def write(client: httpx2.Client, url: str, token: str, key: str) -> int | None:
    """Send a write; return the status of its answer, None without one."""
    try:
        headers = bearer(token) | {"Idempotency-Key": key}
        return client.post(f"{url}/api/db/market-data", json=BODY, headers=headers).status_code
    except httpx2.TransportError:
        return None


def await_applied(api: Api, token: str, number: int, keys: list[str]) -> None:
    """Ask a process for commands by their ids until each was applied."""
    with api.client(token, number) as client:
        for key in keys:
            eventually_blocking(
                lambda: client.get(f"/api/db/commands/{key}").json().get("outcome") == "applied",  # noqa: B023  called at once
                what=f"the outcome of {key}",
            )


# --- kill -9 ---------------------------------------------------------------------------------------------------------


@dataclass
class Doomed:
    """A process that kills itself at a point of the next write, and the key of that write."""

    worker: Worker
    point: str
    trap: Path
    key: str

    def die(self, client: httpx2.Client, token: str) -> None:
        """Send it the write that it does not survive."""
        await_answers(self.worker)
        self.trap.write_text(self.point)
        assert write(client, address_of(self.worker), token, self.key) is None
        assert self.worker.process.wait() == -signal.SIGKILL, self.worker.log.read_text()[-3000:]


def doomed(api: Api, point: str) -> Doomed:
    key = new_key()
    trap = api.deployment.installation.folder / key
    more = {**OWN, LABEL_FILE: str(trap)}
    worker = api.deployment.launch("http", module="tests.support.faults.deaths", **more)
    return Doomed(worker, point, trap, key)


def audited(api: Api) -> dict[str, str]:
    """Return what the audit says of intents without an outcome, by the id of the command; the journal is intact."""
    report: dict[str, Any] = api.deployment("audit", "--journal", "--json").json()
    return {entry["command_id"]: entry["resolution"] for entry in report["open"]}


def test_a_write_counts_once_wherever_its_process_is_killed(world: tuple[Api, str]) -> None:
    """An intent whose outcome is not known stays open, is reported, and is resolved by the log."""
    api, token = world
    counted: Counter[tuple[str, str]] = Counter()
    for _ in range(ROUNDS):
        dying = [doomed(api, point) for point in POINTS]
        with plain_client() as client:
            for process in dying:
                process.die(client, token)
            sent = [process.key for process in dying if process.point in {"write:sent", "write:decided"}]
            await_applied(api, token, 1, sent)
            said = audited(api)
            for process in dying:
                resolution = said.get(process.key, "none")
                assert resolution in OPEN_AT[process.point], (process.point, resolution)
                counted[process.point, resolution] += 1
            again = {write(client, api.url(1), token, process.key) for process in dying}
        assert again == {201}
        said = audited(api)
        assert {said.get(process.key, "applied") for process in dying} == {"applied"}
        rows = api.deployment.rows()
        assert {rows[process.key] for process in dying} == {1}
    sys.stdout.write(f"\n{ROUNDS * len(POINTS)} kills: {dict(counted)}\n")


# --- a stop under load -----------------------------------------------------------------------------------------------


def test_what_was_accepted_before_a_stop_is_decided(world: tuple[Api, str]) -> None:
    """SIGTERM while many write and read: every answer is an outcome, a place to ask, or a refusal that may be repeated.

    After it the process refuses what comes, and in the end it does not listen.
    """
    api, token = world
    url, keys = api.url(0), [new_key() for _ in range(WRITES)]
    page = f"{url}/api/db/connector-profiles"

    with plain_client() as client, ThreadPoolExecutor(AT_ONCE) as crowd:

        def read() -> int | None:
            try:
                return client.get(page, headers=bearer(token)).status_code
            except httpx2.TransportError:
                return None

        sent, reads = [], []
        for key in keys:
            sent.append(crowd.submit(write, client, url, token, key))
            reads.append(crowd.submit(read))
        _await_some(sent)
        assert api.servers[0].stop() == 0
        answers = dict(zip(keys, [future.result() for future in sent], strict=True))
        assert {future.result() for future in reads} <= {200, 503, None}
        assert write(client, url, token, new_key()) is None
    assert set(answers.values()) <= {201, 202, 503, None}
    accepted = [key for key, status in answers.items() if status in {201, 202}]
    assert len(accepted) >= AT_ONCE
    await_applied(api, token, 1, accepted)
    rows = api.deployment.rows()
    assert {key: rows[key] for key in accepted} == dict.fromkeys(accepted, 1)
    assert {rows[key] for key in keys} <= {0, 1}
    intended = {entry["command_id"] for entry in api.journal("intent")}
    assert {key for key in keys if rows[key]} <= intended
    assert {resolution for key, resolution in audited(api).items() if rows[key]} <= {"applied"}


def _await_some(sent: list[Future[int | None]]) -> None:
    eventually_blocking(lambda: sum(future.done() for future in sent) >= AT_ONCE, what="some answers")
