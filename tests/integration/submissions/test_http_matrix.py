"""Who may ask what: every operation that is served, for every kind of grant; and what must not show, does not."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from tests.support.asgi_client import Response
from tests.support.clients.journeys import Deployment
from tests.support.faults.held_copies import HeldCopies
from tests.support.http.api import Api, Granted, new_key, tick
from tests.support.http.matrix import (
    COLLECTIONS,
    FACTS,
    NEEDS,
    PRINCIPALS,
    QUERY,
    STATE,
    STRANGERS,
    Try,
    expected,
    tries,
)
from tests.support.http.opened import OpenApi, opened
from tests.support.servers.installation import Installation
from tests.support.waiting import eventually

UNKNOWN_AT_ONCE = 20
"""So many refusals of unknown senders have an entry each; those beyond it are summed up until time passes."""

ENTRIES = """
select kind, principal, detail::text as detail from tm.journal
where kind in ('intent', 'refusal') and at > $1::text::timestamptz order by at, number
"""


@pytest.fixture(scope="module")
def tokens(served: Installation) -> Iterator[dict[str, str | None]]:
    """The token of each principal, and of those that have none in force."""
    with ExitStack() as exit_stack:
        api = Api(Deployment(served, 2, exit_stack))
        made: dict[str, str | None] = {
            name: api.add_principal(name, *has) for name, has in PRINCIPALS.items()
        }
        made |= {"revoked": api.add_principal("revoked", Granted("*")), "none": None, "guess": "tm_guessed"}
        api.revoke_principal("revoked")
        made["expired token"] = api.add_token("everything", valid=timedelta(seconds=-1))
        made["revoked token"] = revoked = api.add_token("everything")
        revoke = "update tm.principal_token set revoked_at = now() where id = $1"
        served.fetch(revoke, revoked.split("_")[1])
        assert made.keys() == {*PRINCIPALS, *STRANGERS}
        yield made


async def send(api: OpenApi, one: Try, token: str | None) -> Response:
    body = json.dumps(one.body).encode() if one.operation.body else b""
    return await api.ask(one.method, one.url, token=token, body=body, headers=one.headers)


def answer_of(one: Try, response: Response) -> tuple[int, str]:
    """Return status and code; of HEAD the code is left out, since it has no body."""
    if response.status < 400:
        return response.status, ""
    assert response.headers["content-type"] == "application/problem+json"
    return response.status, "" if one.method == "HEAD" else response.json()["code"]


def may_answer(one: Try) -> set[tuple[int, str]]:
    return {(status, "" if one.method == "HEAD" else code) for status, code in expected(one)}


@pytest.fixture
def held(served: Installation) -> Iterator[HeldCopies]:
    """Batches wait before their commit until it is released."""
    with ExitStack() as exit_stack:
        yield Deployment(served, 2, exit_stack).hold_copies()


# --- the matrix ------------------------------------------------------------------------------------------------------


async def test_every_operation_answers_each_principal_as_its_grants_say(
    served: Installation, tokens: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deny by default, also what is served and not described; every refusal and every write is in the journal."""
    began = served.fetch("select now()::text as at")[0]["at"]
    async with opened(served, monkeypatch) as api:
        assert {operation.name for operation in api.operations} == NEEDS.keys()
        every = list(tries(api.operations, tokens))
        answered = [(one, await send(api, one, tokens[one.principal])) for one in every]
        wrong = [
            (one.principal, one.method, one.url, response.status, response.body[:200])
            for one, response in answered
            if answer_of(one, response) not in may_answer(one)
        ]
        assert wrong == [], len(wrong)
        api.clock.pass_(1.0)
        last = Try("none", next(op for op in api.operations if op.name == "getSchemas"), "GET", None)
        answered.append((last, await send(api, last, None)))
    assert len(answered) > 1_000
    entries = served.fetch(ENTRIES, began)
    assert noted(entries) == noted_of(answered)
    of_strangers = [entry for entry in entries if entry["principal"] is None]
    assert len(of_strangers) == UNKNOWN_AT_ONCE + 1


def noted(entries: list[Any]) -> Counter[tuple[str, str]]:
    """What the journal has, by principal and kind of entry, with what its entries sum up."""
    counted: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        counted[entry["principal"] or "?", entry["kind"]] += 1 + json.loads(entry["detail"]).get("more", 0)
    return counted


def noted_of(answered: list[tuple[Try, Response]]) -> Counter[tuple[str, str]]:
    """What the journal must have of these answers."""
    counted: Counter[tuple[str, str]] = Counter()
    for one, response in answered:
        if one.need == "nothing":
            continue
        if one.principal in STRANGERS:
            counted["?", "refusal"] += 1
        elif response.status == 202:
            counted[one.principal, "intent"] += 1
        elif one.operation.abandoned is False or response.status in {401, 403} or not_known(one, response):
            counted[one.principal, "refusal"] += 1
    return counted


def not_known(one: Try, response: Response) -> bool:
    """Tell whether it was refused since the collection does not exist for the principal."""
    return (response.status, "NO_COLLECTION") in expected(one)


async def test_a_stranger_gets_no_byte_of_anything(
    served: Installation, tokens: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked, and whatever is wrong with the credentials, the answer is the same, and asks nothing."""
    async with opened(served, monkeypatch) as api:
        await api.ask("GET", "/api/db/schema", token=tokens["everything"])
        api.work.take()
        shown: set[str] = set()
        for one in tries(api.operations, STRANGERS):
            if one.need != "nothing" and one.method != "HEAD":
                response = await send(api, one, tokens[one.principal])
                shown.add(without_path(response, one))
        assert len(shown) == 1, shown
        assert api.work.take() == ([], [])
        open_ones = {operation.path for operation in api.operations if operation.open}
        assert open_ones == {"/livez", "/readyz", "/docs"}
        for path in sorted(open_ones):
            text = (await api.ask("GET", path, token=None)).body.decode()
            assert not any(name in text for name in (FACTS, STATE, QUERY)), path
        assert api.work.take() == ([], [])


# --- what must not show ----------------------------------------------------------------------------------------------


def without_path(response: Response, one: Try, *names: str) -> str:
    """Return all of an answer but the path and the names in it."""
    body = json.loads(response.body)
    body.pop("instance", None)
    headers = {name: value for name, value in response.headers.items() if name not in VARY}
    text = json.dumps([response.status, headers, body], sort_keys=True)
    for name in (*names, one.collection or ""):
        text = text.replace(name, "NAME") if name else text
    return text


VARY = {"content-length", "ratelimit", "idempotency-key"}
"""Headers that say nothing of what is there: of the path's length, the request's own cost, and its own key."""


async def seen_of(
    api: OpenApi, method: str, url: str, token: str | None, *names: str, body: Any = None, **headers: str
) -> tuple[str, tuple[list[str], list[str]]]:
    """Return an answer without the names in it, and what the database was asked for it."""
    api.work.take()
    given = [("content-type", "application/json")] if body is not None else []
    given += [(name.replace("_", "-"), value) for name, value in headers.items()]
    content = b"" if body is None else json.dumps(body).encode()
    response = await api.ask(method, url, token=token, body=content, headers=given)
    blank = Try("", api.operations[0], method, None)
    return without_path(response, blank, *names), api.work.take()


async def test_a_collection_without_a_grant_is_answered_like_one_that_is_not(
    served: Installation, tokens: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status, headers and body are equal, and the database is asked the same: nothing."""
    async with opened(served, monkeypatch) as api:
        await api.ask("GET", "/api/db/schema", token=tokens["without"])
        for principal in ("without", "elsewhere"):
            shown: dict[str, set[str]] = {}
            for one in tries(api.operations, [principal]):
                if one.collection is None or one.need == "later" or one.method == "HEAD":
                    continue
                api.work.take()
                response = await send(api, one, tokens[principal])
                assert api.work.take() == ([], []), one
                shown.setdefault(one.operation.name, set()).add(without_path(response, one))
            assert {name: len(answers) for name, answers in shown.items()} == dict.fromkeys(shown, 1), shown
            assert len(shown) >= len(COLLECTIONS)


async def test_a_command_of_another_service_is_answered_like_one_that_is_not(
    served: Installation, tokens: dict[str, str | None], monkeypatch: pytest.MonkeyPatch, held: HeldCopies
) -> None:
    """While it is on its way, and once it was applied: by the same statements."""
    async with opened(served, monkeypatch) as api:
        sent, absent = new_key(), new_key()
        given = [("idempotency-key", sent), ("content-type", "application/json"), ("prefer", "respond-async")]
        owner, body = tokens["create named"], json.dumps(tick("OWN")).encode()
        answer = await api.ask("POST", f"/api/db/{FACTS}", token=owner, body=body, headers=given)
        assert answer.status == 202

        async def status() -> int:
            return (await api.ask("GET", f"/api/db/commands/{sent}", token=owner)).status

        async def look_alike() -> None:
            for principal in ("without", "read all", "create all"):
                token = tokens[principal]
                other = await seen_of(api, "GET", f"/api/db/commands/{absent}", token, absent)
                assert "NO_COMMAND" in other[0]
                assert await seen_of(api, "GET", f"/api/db/commands/{sent}", token, sent) == other

        assert await status() == 202
        await look_alike()
        await asyncio.to_thread(held.release)

        async def is_applied() -> bool:
            return await status() == 200

        await eventually(is_applied, what="the outcome of a command")
        await look_alike()


async def test_a_query_a_command_and_a_lane_that_must_not_be_known_are_answered_like_those_that_are_not(
    served: Installation, tokens: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(served, monkeypatch) as api:
        await api.ask("GET", "/api/db/schema", token=tokens["elsewhere"])
        token = tokens["elsewhere"]
        arguments = {"user_id": "ada", "status": "running"}
        queries = [
            await seen_of(
                api, "POST", "/api/db/query", token, name, body={"query": name, "parameters": given}
            )
            for name in (QUERY, "no-such-query")
            for given in (arguments, {})
        ]
        assert "NO_QUERY" in queries[0][0]
        assert queries == [(queries[0][0], ([], []))] * 4
        commands = [
            await seen_of(
                api, "POST", "/api/db/commands", token, name, body={"command": name, "parameters": tick("S")}
            )
            for name in ("RecordMarketData", "DoNothingAtAll", "tidemill.market_data.RecordMarketData")
        ]
        assert "BAD_BODY" in commands[0][0]
        assert commands == [commands[0]] * 3
        lanes = [
            await seen_of(api, "GET", "/api/db/users", token, name, tidemill_seen=f"{name}.0=1")
            for name in ("first-of-all", FACTS, "no-such-stream")
        ]
        assert "BAD_TOKEN" in lanes[1][0]
        assert lanes[1] == lanes[2], "the first one makes the driver learn the types"


async def test_a_hidden_column_is_refused_like_one_that_is_not(
    served: Installation, tokens: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each clause, with the same statements: none."""
    asked = ("?_fields={}", "?{}=a", "?{}.prefix=a", "?_sort={}", '?_where={{"{}":{{"eq":"a"}}}}')
    with ExitStack() as exit_stack:
        api_of = Api(Deployment(served, 2, exit_stack))
        token = api_of.add_principal("half-blind", Granted(FACTS, ["read"], ["source"]))
    async with opened(served, monkeypatch) as api:
        await api.ask("GET", "/api/db/schema", token=token)
        for clause in asked:
            hidden, absent = [
                await seen_of(api, "GET", f"/api/db/{FACTS}{clause.format(name)}", token, name)
                for name in ("source", "nope")
            ]
            assert hidden == absent
            assert "NO_SUCH_FIELD" in hidden[0]
            assert hidden[1] == ([], [])
        hidden, absent = [
            await seen_of(
                api, "POST", f"/api/db/{FACTS}/query", token, name, body={"where": {name: {"eq": 1}}}
            )
            for name in ("source", "nope")
        ]
        assert hidden == absent
