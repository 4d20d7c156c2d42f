"""Whatever text a client puts in whichever place, no statement has a part of it (T5 of docs/security.md)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from random import Random
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.clients.journeys import Deployment
from tests.support.http.api import NOT_BEFORE, Api, Granted, new_key, tick
from tests.support.http.opened import OpenApi, opened
from tests.support.http.sizes import sized
from tests.support.servers.installation import Installation

MARK = "zq7x"
"""A part of each hostile text, and of nothing else."""

TEXTS = sized(20, 5_000)
FACTS, STATE = "/api/db/market-data", "/api/db/client-configs"
SINCE = f"time.gte={NOT_BEFORE}"

BEGINNINGS = (
    *(
        "",
        "'",
        '"',
        "''",
        '""',
        "\\",
        "\\'",
        "`",
        "$$",
        "$1",
        "%27",
        "--",
        "/*",
        ")",
        "'))",
        ";",
        "E'",
        "U&'",
        ":",
    ),
    *("::text", "\n", "\u2019", "\u02bc", "\uff07", "1"),  # quotation marks of other alphabets among them
)
COMMANDS = (
    " or {mark}=1",
    " union select {mark}",
    "; drop table {mark}",
    "; select pg_sleep(9) as {mark}",
    " and (select count(*) from {mark}) > 0",
    "||(select {mark})",
    ") or exists(select {mark}",
    "; copy {mark} to program 'id'",
    "; set role {mark}",
    " returning {mark}",
    ", {mark}",
    ".{mark}",
    "{mark}",
)
ENDINGS = ("", "--", ";--", "#", "/*", "'", '"', ")", "$$", " --+", "\\")


def texts(random: Random) -> Iterator[str]:
    """Yield hostile texts without end, each made of three parts."""
    while True:
        parts = (random.choice(BEGINNINGS), random.choice(COMMANDS), random.choice(ENDINGS))
        yield "".join(parts).format(mark=MARK)


Request = tuple[str, str, Any]
"""Method, URL, document of the body."""

URLS: dict[str, Callable[[str], Request]] = {
    "collection": lambda text: ("GET", f"/api/db/{text}", None),
    "key": lambda text: ("GET", f"{STATE}/{text}", None),
    "key, deleted": lambda text: ("DELETE", f"{STATE}/{text}", None),
    "field": lambda text: ("GET", f"{FACTS}?{SINCE}&{text}=1", None),
    "operator": lambda text: ("GET", f"{FACTS}?{SINCE}&symbol.{text}=1", None),
    "value": lambda text: ("GET", f"{FACTS}?{SINCE}&symbol={text}", None),
    "word": lambda text: ("GET", f"{STATE}?config_data.has={text}", None),
    "number": lambda text: ("GET", f"{FACTS}?{SINCE}&price.gt={text}", None),
    "time": lambda text: ("GET", f"{FACTS}?time.gte={text}", None),
    "fields": lambda text: ("GET", f"{FACTS}?{SINCE}&_fields={text}", None),
    "sort": lambda text: ("GET", f"{FACTS}?{SINCE}&_sort={text}", None),
    "limit": lambda text: ("GET", f"{FACTS}?{SINCE}&_limit={text}", None),
    "cursor": lambda text: ("GET", f"{FACTS}?{SINCE}&_after={text}", None),
    "count": lambda text: ("GET", f"{FACTS}/count?{SINCE}&source={text}", None),
    "schema": lambda text: ("GET", f"/api/db/schema/{text}", None),
    "command's id": lambda text: ("GET", f"/api/db/commands/{text}", None),
}
BODIES: dict[str, Callable[[str], Request]] = {
    "name in a filter": lambda text: ("POST", f"{FACTS}/query", {"where": {text: {"eq": 1}}}),
    "operator in a filter": lambda text: ("POST", f"{FACTS}/query", {"where": {"symbol": {text: 1}}}),
    "value in a filter": lambda text: ("POST", f"{STATE}/query", {"where": {"name": {"in": [text, "a"]}}}),
    "member in a filter": lambda text: (
        "POST",
        f"{STATE}/query",
        {"where": {"config_data": {"contains": {text: text}}}},
    ),
    "declared query": lambda text: ("POST", "/api/db/query", {"query": text, "parameters": {}}),
    "parameter of a query": lambda text: (
        "POST",
        "/api/db/query",
        {"query": "files-of-analysis", "parameters": {text: text}},
    ),
    "value of a query": lambda text: (
        "POST",
        "/api/db/query",
        {"query": "files-of-analysis", "parameters": {"data_analysis_id": text}},
    ),
    "fields": lambda text: ("POST", f"{STATE}/query", {"fields": [text]}),
    "sort": lambda text: ("POST", f"{STATE}/query", {"sort": [text]}),
    "name of a command": lambda text: ("POST", "/api/db/commands", {"command": text, "parameters": {}}),
    "name of a parameter": lambda text: ("POST", FACTS, tick("AAPL", **{text: text})),
    "parameter": lambda text: ("POST", FACTS, tick("AAPL", source=text)),
}


@pytest.fixture
async def api(served: Installation, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenApi]:
    async with opened(served, monkeypatch) as api:
        yield api


@pytest.fixture(scope="module")
def token(served: Installation) -> str:
    with ExitStack() as exit_stack:
        return Api(Deployment(served, 2, exit_stack)).add_principal("intruder", Granted("*"))


async def ask(api: OpenApi, token: str, request: Request) -> int:
    method, url, document = request
    body = b"" if document is None else json.dumps(document).encode()
    headers = [("Idempotency-Key", new_key()), ("Prefer", "respond-async")]
    if document is not None:
        headers.append(("Content-Type", "application/json"))
    return (await api.ask(method, url, token=token, body=body, headers=headers)).status


async def test_no_statement_has_a_part_of_what_a_client_sends(
    api: OpenApi, token: str, served: Installation, seed: int
) -> None:
    """Each text in each place. Statements are those that honest requests have, too: all that differs is a parameter."""
    source = texts(Random(seed))
    statuses: Counter[int] = Counter()
    api.work.take()
    await ask(api, token, URLS["value"]("AAPL"))
    assert api.work.take()[1], "statements are seen"
    for text in (next(source) for _ in range(TEXTS)):
        encoded = quote(text, safe="")
        requests = [*(made(encoded) for made in URLS.values()), *(made(text) for made in BODIES.values())]
        for request in requests:
            statuses[await ask(api, token, request)] += 1
        _, statements = api.work.take()
        assert [each for each in statements if MARK in each] == [], text
    assert statuses.keys() <= {200, 202, 400, 404, 414, 422}, statuses
    assert min(statuses[200], statuses[400], statuses[404]) >= TEXTS, statuses
    assert served.fetch("select 1 from pg_class where position($1 in relname) > 0", MARK) == []
