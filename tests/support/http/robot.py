"""A client that knows nothing of Tidemill but `retry` and `Retry-After`, and documents as a plain model has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from threading import Event
from typing import Any, Final

import httpx2

from tests.support.http.api import bearer, new_key, plain_client
from tests.support.waiting import HANGING_S

COLLECTION: Final = "client-configs"
MAX_ATTEMPTS: Final = 1_000
"""A robot that needs more goes in a circle."""


class Robot:
    """Sends each request until it is decided. `urls`: the processes, in turn.

    An answer that did not arrive is asked for again with the same key, as HTTP clients do. `answers` counts.
    `all_well`: cleared by whoever breaks something, and set when it is mended. `longest_s`: how long a request was told
    to wait in all while everything was well.
    """

    def __init__(self, urls: Sequence[str], token: str) -> None:
        self._urls = urls
        self._token = token
        self._client = plain_client()
        self.answers: Counter[str] = Counter()
        self.all_well = Event()
        self.all_well.set()
        self.longest_s = 0.0

    def decided(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Return the answer that decides a request, under one key."""
        key = {} if method == "GET" else {"Idempotency-Key": new_key()}
        told_s = 0.0
        for attempt in count():
            assert attempt < MAX_ATTEMPTS, (method, path, self.answers)
            response = self._send(attempt, method, path, body, headers | key)
            if response is None:
                self.answers["none"] += 1
            elif response.status_code in {202, 503}:
                told_s += self._obey(response)
                self.longest_s = max(self.longest_s, told_s)
            else:
                self.answers[str(response.status_code)] += 1
                return response
        raise AssertionError

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _send(
        self, attempt: int, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> httpx2.Response | None:
        url = self._urls[attempt % len(self._urls)]
        try:
            return self._client.request(
                method, f"{url}/api/db/{path}", json=body, headers=bearer(self._token) | headers
            )
        except httpx2.TransportError:
            return None

    def _obey(self, response: httpx2.Response) -> float:
        """Wait as long as the answer says, if it says that the same may be sent again.

        Return the seconds if everything was well before and after them, else 0.
        """
        content = response.json()
        self.answers[content.get("code") or "202"] += 1
        assert response.status_code == 202 or content["retry"] in {"same-key", "later"}, content
        told_s, was_well = float(response.headers["retry-after"]), self.all_well.is_set()
        _wait(told_s)
        return told_s if was_well and self.all_well.is_set() else 0.0


def _wait(seconds: float) -> None:
    """Wait as a client is told to: the server says how long."""
    Event().wait(min(seconds, HANGING_S))


@dataclass
class Model:
    """Documents of one robot, as they must be: version and name by id. A key that was deleted is not used again.

    `seen`: the newest token.

    `wrong`: what was answered otherwise than the model says.
    """

    robot: Robot
    random: Random
    ids: list[str]
    documents: dict[str, tuple[int, str]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    seen: str = ""
    wrong: list[str] = field(default_factory=list)

    def step(self) -> None:
        """Do something, and compare the answer with what the model says."""
        act = self.random.choice(
            (self._create, self._patch, self._patch, self._replace, self._delete, self._read)
        )
        act(self.random.choice(self.ids))

    def compare(self) -> None:
        """Read every document."""
        for key in self.ids:
            self._read(key)

    def _create(self, key: str) -> None:
        name = new_key()
        body = {"client_config_id": key, "name": name, "config_data": {"a": 1}}
        response = self.robot.decided("POST", COLLECTION, body)
        status = 409 if key in self.documents or key in self.deleted else 201
        if self._expect(response, status, "create", key):
            self.documents[key] = 1, name
        if key in self.deleted:
            self.ids[self.ids.index(key)] = new_key()

    def _patch(self, key: str) -> None:
        self._change("PATCH", key, {"name": new_key()})

    def _replace(self, key: str) -> None:
        self._change("PUT", key, {"name": new_key(), "config_data": {"b": 2}})

    def _change(self, method: str, key: str, body: dict[str, Any]) -> None:
        match, status = self._match(key)
        response = self.robot.decided(method, f"{COLLECTION}/{key}", body, **match)
        if self._expect(response, status, method, key):
            self.documents[key] = self.documents[key][0] + 1, body["name"]

    def _delete(self, key: str) -> None:
        match, status = self._match(key)
        response = self.robot.decided("DELETE", f"{COLLECTION}/{key}", **match)
        if self._expect(response, status, "DELETE", key):
            del self.documents[key]
            self.deleted.add(key)

    def _match(self, key: str) -> tuple[dict[str, str], int]:
        """Return If-Match, or nothing, and the status that it leads to."""
        if key not in self.documents:
            return {}, 404
        version = self.documents[key][0]
        stated = self.random.choice((None, version, version + 1))
        if stated is None:
            return {}, 200
        return {"If-Match": f'"v{stated}"'}, 200 if stated == version else 412

    def _expect(self, response: httpx2.Response, status: int, what: str, key: str) -> bool:
        """Note what is wrong; return whether the write was applied."""
        if response.status_code != status:
            self.wrong.append(f"{what} {key}: {response.status_code} in place of {status}: {response.text}")
        self.seen = response.headers.get("tidemill-seen", self.seen)
        return response.status_code in {200, 201}

    def _read(self, key: str) -> None:
        seen = {"Tidemill-Seen": self.seen} if self.seen else {}
        response = self.robot.decided("GET", f"{COLLECTION}/{key}", **seen, Prefer="wait=30")
        version, name = self.documents.get(key, (0, ""))
        shown = (0, "")
        if response.status_code == 200:
            shown = int(response.headers["tidemill-version"]), response.json()["name"]
        if shown != (version, name):
            self.wrong.append(f"{key} is {shown} in place of {(version, name)}: {response.text}")
