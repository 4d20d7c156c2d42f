"""Writes whose keys are sent again and again, to several processes and partly at once: each shall count once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx2

from tests.support.http.api import Api, bearer, new_key, plain_client, tick
from tests.support.waiting import eventually_blocking

_LOGGED = """
select command_id::text as id, count(*)::int as times from tm.log where command_id::text = any($1) group by command_id
"""


@dataclass(frozen=True)
class Write:
    """A write with its key. `sends`: to which process, by number, in turn."""

    key: str
    body: dict[str, Any]
    sends: tuple[int, ...]


@dataclass
class Answers:
    """What came back, by key; what was lost on the way is not in it."""

    of_key: dict[str, list[httpx2.Response]] = field(default_factory=lambda: defaultdict(list))

    def note(self, key: str, response: httpx2.Response) -> None:
        """Keep an answer."""
        self.of_key[key].append(response)


def random_writes(random: Random, count: int, processes: int, *, symbols: int = 40) -> list[Write]:
    """Return writes of prices, each to be sent one to five times."""
    return [
        Write(
            key=new_key(),
            body=tick(f"R{random.randrange(symbols)}", price=float(number)),
            sends=tuple(random.randrange(processes) for _ in range(random.randint(1, 5))),
        )
        for number in range(count)
    ]


class Repeater:
    """Sends writes through wires that may lose them. `urls`: one for each process."""

    def __init__(self, urls: Sequence[str], token: str, *, wait_s: int = 5) -> None:
        self._urls = urls
        self._headers = bearer(token) | {"Connection": "close", "Prefer": f"wait={wait_s}"}
        self._client = plain_client()
        self.answers = Answers()

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def send_all(self, writes: Sequence[Write], at_once: int = 12) -> None:
        """Send every write as often as it says, some of one key at the same time; then each until it is answered."""
        sends = [(write, process) for write in writes for process in write.sends]
        with ThreadPoolExecutor(at_once) as crowd:
            list(crowd.map(lambda send: self._send(*send), sends))
            list(crowd.map(self.bring_home, writes))

    def bring_home(self, write: Write) -> httpx2.Response:
        """Send a write until it has an answer that decides it, to each process in turn."""
        turns = iter(range(1_000_000))

        def decided() -> httpx2.Response | None:
            response = self._send(write, next(turns) % len(self._urls))
            return response if response is not None and response.status_code not in {202, 503} else None

        response = eventually_blocking(decided, what=f"an answer to {write.key}")
        assert response is not None
        return response

    def _send(self, write: Write, process: int) -> httpx2.Response | None:
        try:
            response = self._client.post(
                f"{self._urls[process]}/api/db/market-data",
                json=write.body,
                headers=self._headers | {"Idempotency-Key": write.key},
            )
        except httpx2.TransportError:
            return None
        self.answers.note(write.key, response)
        return response


def assert_each_once(api: Api, writes: Sequence[Write], answers: Answers) -> None:
    """Each key has one row, one event, one outcome, and one answer whenever it is asked."""
    keys = [write.key for write in writes]
    for key in keys:
        shown = {
            _shown(response) for response in answers.of_key[key] if response.status_code not in {202, 503}
        }
        assert shown == {(201, True, key, "")}, (key, shown)
    rows = api.deployment.rows()
    assert {key: rows[key] for key in keys} == dict.fromkeys(keys, 1)
    logged = {row["id"]: row["times"] for row in api.deployment.installation.fetch(_LOGGED, keys)}
    assert logged == dict.fromkeys(keys, 1)
    assert set(rows) == set(keys)
    events = api.deployment.await_records(api.deployment.topics.events, len(keys))
    assert sorted(event.text("ce_id") for event in events) == sorted(f"{key}:1" for key in keys)


def _shown(response: httpx2.Response) -> tuple[int, bool, str, str]:
    body = response.json()
    return response.status_code, body["success"], body["command_id"], body["code"] or ""
