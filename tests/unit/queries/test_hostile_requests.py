"""Names and values that should do harm, and hidden columns: what is said of them, and that SQL stays the same."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.support.engine.collections import all_collections, random_sort, random_where
from tidemill.domain.errors import RequestRefused
from tidemill.queries.filters import shape_of
from tidemill.queries.request import PageRequest, page_request
from tidemill.queries.request_body import body_request

COLLECTIONS = all_collections()
SAMPLES = COLLECTIONS.visible("samples")


def read(*pairs: tuple[str, str]) -> PageRequest:
    return page_request(SAMPLES, pairs)


def refused(*pairs: tuple[str, str]) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        page_request(SAMPLES, pairs)
    return caught.value


def refused_body(body: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        body_request(SAMPLES, body)
    return caught.value


# --- hostile names and values ----------------------------------------------------------------------------------------

HOSTILE = (
    "id; drop table samples",
    'id" or 1=1 --',
    "id' or '1'='1",
    "id) or (1=1",
    "samples.id",
    "public.samples.id",
    "id::text",
    "(select 1)",
    "*",
    "1",
    "$1",
    "t.id",
    "ID",
    " id",
    "id ",
    "id\x00",
    "id\n",
    "\uff49\uff44",
    "tm_n",
    "tm_hash",
    "ctid",
    "tableoid",
    "xmin",
    "oid",
    "__proto__",
    "constructor",
    "$where",
    "hashed_password",
    "command_id",
    "pg_sleep(10)",
    "id,name",
    "",
    "-",
    "a" * 8192,
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_in_every_place(name: str) -> None:
    bodies: list[dict[str, Any]] = [
        {"where": {name: {"eq": "1"}}},
        {"where": {"_or": [{"_not": {name: {"is": "null"}}}]}},
        {"where": {"id": {name: "1"}}},
        {"fields": [name]},
        {"sort": [name]},
        {"sort": [f"-{name}"]},
        {name or "nothing": []},
        {"count": name or "nothing"},
    ]
    for body in bodies:
        refusal = refused_body(body)
        assert refusal.code in {"NO_SUCH_FIELD", "BAD_PARAMETER", "BAD_BODY"}
        assert len(refusal.detail) < 500
        refusal.detail.encode()
    for pair in [
        (name, "1"),
        (f"{name}.eq", "1"),
        (f"id.{name}", "1"),
        ("_fields", f"id,{name}"),
        ("_sort", name),
    ]:
        if pair not in {("_fields", "id,id,name"), ("_sort", "id,name"), ("id.", "1")}:
            refused(pair)


@pytest.mark.parametrize(
    "value", [*HOSTILE[:20], "'; drop table samples; --", "\\", "%", "{1}", "%(x)s", ":x"]
)
def test_a_hostile_value_changes_no_statement(value: str) -> None:
    if "\x00" in value:
        assert refused(("name", value)).code == "BAD_VALUE"
        return
    request = read(("name", value), ("name.prefix", value), ("id.in", value))
    assert shape_of(request.where) == shape_of(
        read(("name", "a"), ("name.prefix", "a"), ("id.in", "a")).where
    )


# --- hidden columns --------------------------------------------------------------------------------------------------


def test_a_hidden_column_is_refused_as_one_that_never_was(seed: int) -> None:
    source = Random(seed)
    for name in SAMPLES.columns:
        hidden = COLLECTIONS.visible("samples", frozenset({name}))
        for body in [random_request(source, name) for _ in range(20)]:
            assert answer(hidden, body, name) == answer(hidden, renamed(body, name), NEVER)


def random_request(source: Random, name: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "where": random_where(source, SAMPLES),
        "sort": random_sort(source, SAMPLES),
        "fields": source.sample(list(SAMPLES.columns), 3),
    }
    body[source.choice(["where", "sort", "fields"])] = None
    return body


def renamed(part: Any, name: str) -> Any:
    """The same request for a column that never was."""
    if isinstance(part, dict):
        return {NEVER if key == name else key: renamed(member, name) for key, member in part.items()}
    if isinstance(part, list):
        return [renamed(member, name) for member in part]
    return part.replace(name, NEVER) if part in (name, f"-{name}") else part


NEVER = "never_was"


def answer(collection: Any, body: dict[str, Any], name: str) -> Any:
    """What is said of a request, with the name that never was in place of the one that was asked for."""
    try:
        return repr(body_request(collection, body))  # NaN does not equal itself
    except RequestRefused as refusal:
        return [
            (
                refusal.code,
                [NEVER if part == name else part for part in fault.where.split("/")],
                fault.detail.partition(": ")[2].replace(f"no field {name}", f"no field {NEVER}"),
                fault.code,
            )
            for fault in refusal.faults
        ]
