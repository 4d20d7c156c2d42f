"""An address in what a client sends is a text: no process calls it, wherever it stands (T18 of docs/security.md)."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from random import Random
from typing import Any
from urllib.request import urlopen

import httpx2
import pytest

from tests.support.engine.any_commands import options
from tests.support.engine.built_in import BUILT_IN
from tests.support.http.api import NOT_BEFORE, Api, Granted, served
from tests.support.http.listener import Listener, listening
from tidemill.domain.messages import BASE_FIELDS, Message
from tidemill_devkit.stack import Stack

CONTEXTS = ("client_configs", "market_data", "news_articles", "system_logs", "telemetry_events", "users")
MASTER_KEY = "tests:" + b64encode(bytes(32)).decode()
HEADERS = ("Host", "Forwarded", "X-Forwarded-Host", "Referer", "Origin", "traceparent", "Idempotency-Key", "If-Match",
    "Tidemill-Seen", "Prefer", "Accept", "Accept-Language", "Link")  # fmt: skip


@pytest.fixture(scope="module")
def world(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, httpx2.Client]]:
    folder, principals = tmp_path_factory.mktemp("http"), {"led": [Granted("*")]}
    own = {"TIDEMILL_CONTEXTS": ",".join(CONTEXTS), "TIDEMILL_SECRET_KEYS": MASTER_KEY}
    with (
        new_database() as database,
        served(stack, database, unique_name("http"), folder, principals, servers=1, environment=own) as (
            api,
            tokens,
        ),
        api.client(tokens["led"]) as client,
    ):
        yield api, client


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def requests(listener: Listener, random: Random) -> Iterator[dict[str, Any]]:
    """Each kind of command, with the address in each of its texts in turn; in JSON as members of several names."""
    for context in map(BUILT_IN.__getitem__, CONTEXTS):
        for spec in context.commands:
            for name in filter(lambda name: name not in BASE_FIELDS, spec.model.model_fields):
                given = parameters(spec.model, random)
                if isinstance(given[name], str | dict):
                    yield {"command": spec.model.__name__, "parameters": given | led(given, name, listener)}


def parameters(model: type[Message], random: Random) -> dict[str, Any]:
    own = [name for name in model.model_fields if name not in BASE_FIELDS]
    choices = {name: options(model, name, ["k0", "k1"]) for name in own}
    values = {name: random.choice([each for each in choices[name] if each is not None]) for name in own}
    parsed: dict[str, Any] = json.loads(json.dumps(values, default=lambda time: time.isoformat()))
    return {name: opened(value) for name, value in parsed.items()}


def opened(value: Any) -> Any:
    """Return a text of JSON as HTTP has it: not as a text."""
    is_json = isinstance(value, str) and value.startswith(("{", "["))
    return json.loads(value) if is_json else value


def led(given: dict[str, Any], name: str, listener: Listener) -> dict[str, Any]:
    if isinstance(given[name], str):
        return {name: listener.url}
    return {name: dict.fromkeys(("url", "href", "$ref", "$schema", "callback", "endpoint"), listener.url)}


def test_no_field_of_a_command_leads_a_process_anywhere(
    world: tuple[Api, httpx2.Client], listener: Listener, seed: int
) -> None:
    _, client = world
    sent = list(requests(listener, Random(seed)))
    answers = [client.post("/api/db/commands", json=each, headers={"Prefer": "wait=30"}) for each in sent]
    assert {answer.status_code for answer in answers} <= {200, 201, 400, 404, 409, 422}
    refused = [answer.text for answer in answers if answer.status_code == 400]
    assert len(refused) < len(answers) / 2, refused
    outcomes = [answer.headers.get("tidemill-outcome") for answer in answers]
    assert outcomes.count("applied") > len(CONTEXTS), "what is refused at once would prove little"
    assert len(sent) > 5 * len(CONTEXTS)
    assert_alone(listener)


def test_no_filter_header_or_token_leads_a_process_anywhere(
    world: tuple[Api, httpx2.Client], listener: Listener
) -> None:
    api, client = world
    page = "/api/db/market-data"
    for field in ("symbol", "source", "_fields", "_sort", "_after", "service_name"):
        client.get(page, params={"time.gte": NOT_BEFORE, field: listener.url})
    client.post(f"{page}/query", json={"filter": {"source": {"eq": listener.url}}, "$ref": listener.url})
    for name in HEADERS:
        client.get(page, params={"time.gte": NOT_BEFORE}, headers={name: listener.url})
    header = {"alg": "RS256", "typ": "JWT", "kid": listener.url, "jku": listener.url, "x5u": listener.url}
    parts = (header, {"iss": listener.url, "sub": "led"}, {"signature": listener.url})
    token = ".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    with api.client(token) as stranger:
        assert stranger.get(page).status_code == 401
    assert_alone(listener)


def assert_alone(listener: Listener) -> None:
    """Nobody came; and somebody who comes is seen."""
    assert listener.visits == []
    with pytest.raises(OSError, match=r".+"):
        urlopen(listener.url)
    assert len(listener.visits) == 1
