"""Requests as they are read: what is taken, what is refused, with which code, and that all faults are listed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.support.engine.collections import all_collections
from tidemill.domain.errors import RequestRefused
from tidemill.queries.filters import FilterGroup, Predicate, canonical
from tidemill.queries.request import (
    CountMode,
    PageRequest,
    SortKey,
    count_request,
    fields_request,
    page_request,
)
from tidemill.queries.request_body import body_request
from tidemill.queries.value_types import Bound

COLLECTIONS = all_collections()
SAMPLES, READINGS = COLLECTIONS.visible("samples"), COLLECTIONS.visible("readings")


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


def where(**operators: Any) -> dict[str, Any]:
    return {"where": operators}


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_nothing_asked_for_is_the_first_hundred_rows() -> None:
    assert read() == PageRequest(limit=100, count=CountMode.NONE)


def test_a_url() -> None:
    request = read(
        ("name", "AAPL"),
        ("whole.gte", "100"),
        ("id.in", "a"),
        ("id.in", "b"),
        ("_fields", "id,name"),
        ("_sort", "-whole,name"),
        ("_limit", "7"),
        ("_after", "cursor"),
        ("_count", "capped"),
    )
    assert request == PageRequest(
        fields=("id", "name"),
        where=FilterGroup(
            "and",
            (
                Predicate("name", "eq", (Bound("AAPL"),)),
                Predicate("whole", "gte", (Bound(100),)),
                Predicate("id", "in", (Bound("a"), Bound("b"))),
            ),
        ),
        sort=(SortKey("whole", descending=True), SortKey("name")),
        limit=7,
        after="cursor",
        count=CountMode.CAPPED,
    )


def test_a_body_means_what_the_url_means() -> None:
    body = {
        "where": {"name": {"eq": "AAPL"}, "whole": {"gte": 100}, "id": {"in": ["a", "b"]}},
        "fields": ["id", "name"],
        "sort": ["-whole", "name"],
        "limit": 7,
        "after": "cursor",
        "count": "capped",
    }
    url = read(
        ("_where", json.dumps(body["where"])),
        ("_fields", "id,name"),
        ("_sort", "-whole,name"),
        ("_limit", "7"),
        ("_after", "cursor"),
        ("_count", "capped"),
    )
    assert body_request(SAMPLES, body) == url


def test_an_absent_or_null_member_of_a_body_is_not_asked_for() -> None:
    nothing = dict.fromkeys(("where", "fields", "sort", "limit", "after", "count"))
    assert body_request(SAMPLES, nothing) == body_request(SAMPLES, {}) == PageRequest()


def test_an_empty_text_is_a_value() -> None:
    assert read(("name", "")).where == Predicate("name", "eq", (Bound(""),))


def test_groups_nest() -> None:
    text = '{"_or": [{"small": {"eq": 1, "neq": 2}}, {"_not": {"name": {"is": "null"}}}]}'
    assert canonical(read(("_where", text)).where) == (
        "or(and(('small', 'eq', ['1']);('small', 'neq', ['2']));not(('name', 'is null', [])))"
    )


def test_the_order_of_filters_does_not_matter() -> None:
    one, other = read(("small", "1"), ("name", "a")), read(("name", "a"), ("small", "1"))
    assert canonical(one.where) == canonical(other.where)
    assert canonical(one.where) != canonical(read(("small", "1"), ("name", "b")).where)


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("small", "-32768", Bound(-32768)),
        ("big", "9223372036854775807", Bound(2**63 - 1)),
        ("amount", "1.50", Bound("1.50", as_text=True)),
        ("amount", "1e400", Bound("1e400", as_text=True)),
        ("amount", "NaN", Bound("NaN", as_text=True)),
        ("ratio", "1e-400", Bound(0.0)),
        ("ratio", "-0", Bound(-0.0)),
        ("ratio", "-Infinity", Bound(float("-inf"))),
        ("flag", "false", Bound(False)),
        ("at", "2026-11-30T12:00:00+02:00", Bound(datetime(2026, 11, 30, 10, tzinfo=UTC))),
        ("at", "2026-11-30T10:00Z", Bound(datetime(2026, 11, 30, 10, tzinfo=UTC))),
        ("at", "infinity", Bound("infinity", as_text=True)),
        ("at", "0001-01-01T00:00:00Z", Bound("0001-01-01T00:00:00Z", as_text=True)),
        ("at", "9999-12-31T23:59:59.999999Z", Bound("9999-12-31T23:59:59.999999Z", as_text=True)),
        ("day", "0001-01-01", Bound("0001-01-01", as_text=True)),
        ("ref", "0ABC0000-0000-7000-8000-00000000000F", Bound("0abc0000-0000-7000-8000-00000000000f")),
        ("raw", "AP8=", Bound(b"\x00\xff")),
        ("data", '{"a":1}', Bound('{"a":1}')),
    ],
)
def test_values(column: str, text: str, value: Bound) -> None:
    assert read((column, text)).where == Predicate(column, "eq", (value,))


@pytest.mark.parametrize(
    ("column", "literal", "value"),
    [
        ("big", 2**63 - 1, Bound(2**63 - 1)),
        ("big", "9007199254740993", Bound(2**53 + 1)),
        ("amount", Decimal("1.50"), Bound("1.50", as_text=True)),
        ("amount", "1.50", Bound("1.50", as_text=True)),
        ("ratio", 0.1, Bound(0.1)),
        ("ratio", "NaN", None),
        ("flag", True, Bound(True)),
        ("data", {"b": [1, None]}, Bound('{"b":[1,null]}')),
    ],
)
def test_literals_of_a_body(column: str, literal: object, value: Bound | None) -> None:
    request = body_request(SAMPLES, where(**{column: {"eq": literal}}))
    assert isinstance(request.where, Predicate)
    assert value is None or request.where.values == (value,)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pair", "code", "said"),
    [
        (("nothing", "1"), "NO_SUCH_FIELD", "there is no field nothing"),
        (("name.like", "a"), "BAD_PARAMETER", "no such operator"),
        (("name.", "a"), "BAD_PARAMETER", "no such operator"),
        (("name.eq.eq", "a"), "BAD_PARAMETER", "no such operator"),
        (("data.lt", "1"), "NOT_FILTERABLE", "data takes contains, eq, has, is, neq"),
        (("span", "P1D"), "NOT_FILTERABLE", "span takes is"),
        (("flag.gt", "true"), "NOT_FILTERABLE", "flag takes"),
        (("small", "32768"), "BAD_VALUE", "out of range"),
        (("small", "1.0"), "BAD_VALUE", "not an integer"),
        (("small", "\u0661"), "BAD_VALUE", "not an integer"),
        (("big", "9223372036854775808"), "BAD_VALUE", "out of range"),
        (("big", "1" * 5000), "BAD_VALUE", "not an integer"),
        (("amount", "1e401"), "BAD_VALUE", "out of range"),
        (("amount", "1" * 1001), "BAD_VALUE", "not a decimal"),
        (("amount", "0x10"), "BAD_VALUE", "not a decimal"),
        (("ratio", "1e400"), "BAD_VALUE", "out of range"),
        (("ratio", "nan"), "BAD_VALUE", "not a number"),
        (("rate", "1e39"), "BAD_VALUE", "out of range"),
        (("flag", "yes"), "BAD_VALUE", "true or false"),
        (("at", "2026-11-30T10:00:00"), "BAD_VALUE", "has no offset"),
        (("at", "2026-11-30T10:00:00 02:00"), "BAD_VALUE", "%2B"),
        (("at", "2026-11-30T10:00:00.1234567Z"), "BAD_VALUE", "finer than a microsecond"),
        (("at", "2026-06-30T23:59:60Z"), "BAD_VALUE", "is not a time"),
        (("at", "0000-01-01T00:00:00Z"), "BAD_VALUE", "is not a time"),
        (("at", "10000-01-01T00:00:00Z"), "BAD_VALUE", "is not a time"),
        (("at", "0001-01-01T00:00:00+02:00"), "BAD_VALUE", "is not a time"),
        (("at", "today"), "BAD_VALUE", "is not a time"),
        (("day", "2026-02-30"), "BAD_VALUE", "is not a date"),
        (("day", "now"), "BAD_VALUE", "is not a date"),
        (("clock", "24:00"), "BAD_VALUE", "time of day"),
        (("ref", "{0abc0000-0000-7000-8000-00000000000f}"), "BAD_VALUE", "is not a UUID"),
        (("raw", "A"), "BAD_VALUE", "base64"),
        (("raw", "AP8=\n"), "BAD_VALUE", "base64"),
        (("name", "a\x00"), "BAD_VALUE", "NUL"),
        (("name", "\ud800"), "BAD_VALUE", "surrogate"),
        (("data", '{"a":1,"a":2}'), "BAD_VALUE", "key twice"),
        (("data", "NaN"), "BAD_VALUE", "NaN"),
        (("data", "1e400"), "BAD_VALUE", "out of range"),
        (("data", "[" * 200_000), "BAD_VALUE", "nested deeper"),
        (("data", '"\\u0000"'), "BAD_VALUE", "NUL"),
        (("name.is", "none"), "BAD_VALUE", "null or notnull"),
        (("_limit", "1001"), "LIMIT_TOO_LARGE", "more than 1000"),
        (("_limit", "0"), "BAD_PARAMETER", "less than 1"),
        (("_limit", "ten"), "BAD_PARAMETER", "not a number"),
        (("_limit", "\u0663"), "BAD_PARAMETER", "not a number"),
        (("_offset", "10"), "BAD_PARAMETER", "no such parameter"),
        (("_mode", "exact"), "BAD_PARAMETER", "no such parameter"),
        (("_count", "all"), "BAD_PARAMETER", "none, exact, estimated or capped"),
        (("_sort", "nothing"), "NO_SUCH_FIELD", "there is no field nothing"),
        (("_sort", ""), "NO_SUCH_FIELD", "there is no field"),
        (("_sort", "data"), "NOT_FILTERABLE", "cannot be sorted"),
        (("_sort", "name,-name"), "BAD_PARAMETER", "twice"),
        (("_sort", "id,small,whole,big,name"), "BAD_PARAMETER", "more than 4"),
        (("_fields", ""), "NO_SUCH_FIELD", "there is no field"),
        (("_fields", "id,id"), "BAD_PARAMETER", "twice"),
        (("_fields", "id,nothing"), "NO_SUCH_FIELD", "there is no field nothing"),
        (("_where", "{"), "BAD_PARAMETER", "not JSON"),
        (("_where", "[]"), "BAD_PARAMETER", "not an object"),
        (("_where", '{"small":1}'), "BAD_PARAMETER", "object of operators"),
        (("_where", '{"small":{}}'), "BAD_PARAMETER", "object of operators"),
        (("_where", '{"_and":[]}'), "BAD_PARAMETER", "_or and _not"),
        (("_where", '{"_or":[]}'), "BAD_PARAMETER", "list of filters"),
        (("_where", '{"small":{"eq":null}}'), "BAD_VALUE", "not an integer"),
        (("_where", '{"small":{"eq":[1]}}'), "BAD_VALUE", "not an integer"),
        (("_where", '{"small":{"eq":true}}'), "BAD_VALUE", "not an integer"),
        (("_where", '{"amount":{"eq":0.1}}'), "BAD_VALUE", "written as a string"),
        (("_where", '{"name":{"eq":1}}'), "BAD_VALUE", "not a string"),
        (("_where", '{"name":{"in":["a",1]}}'), "BAD_VALUE", "/1: the value is not a string"),
    ],
)
def test_refusals(pair: tuple[str, str], code: str, said: str) -> None:
    refusal = refused(pair)
    assert (refusal.code, [fault.code for fault in refusal.faults]) == (code, [code])
    assert said in refusal.detail
    assert refusal.faults[0].kind == "parameter"


def test_a_parameter_that_takes_one_value_is_given_once() -> None:
    assert refused(("name", "a"), ("name", "b")).code == "BAD_PARAMETER"
    assert refused(("_limit", "1"), ("_limit", "1")).code == "BAD_PARAMETER"
    assert refused(("data.contains", "1"), ("data.contains", "2")).code == "BAD_PARAMETER"


@pytest.mark.parametrize(
    ("body", "code", "where"),
    [
        ([], "BAD_BODY", ""),
        ({"offset": 1}, "BAD_BODY", "/offset"),
        ({"limit": "7"}, "BAD_BODY", "/limit"),
        ({"limit": True}, "BAD_BODY", "/limit"),
        ({"limit": 1001}, "LIMIT_TOO_LARGE", "/limit"),
        ({"fields": "id"}, "BAD_BODY", "/fields"),
        ({"fields": []}, "BAD_PARAMETER", "/fields"),
        ({"fields": [1]}, "NO_SUCH_FIELD", "/fields"),
        ({"sort": [{"name": "desc"}]}, "NO_SUCH_FIELD", "/sort"),
        ({"after": 1}, "BAD_BODY", "/after"),
        ({"count": True}, "BAD_PARAMETER", "/count"),
        ({"where": []}, "BAD_BODY", "/where"),
        ({"where": {"a/b~c": {"eq": 1}}}, "NO_SUCH_FIELD", "/where/a~1b~0c/eq"),
        ({"where": {"_or": [{"small": {"eq": "x"}}]}}, "BAD_VALUE", "/where/_or/0/small/eq"),
    ],
)
def test_refusals_of_bodies(body: Any, code: str, where: str) -> None:
    refusal = refused_body(body)
    assert [(fault.kind, fault.where, fault.code) for fault in refusal.faults] == [("pointer", where, code)]
    assert refusal.code == code


def test_all_faults_of_a_request_are_listed() -> None:
    refusal = refused(("nothing", "1"), ("small", "x"), ("_limit", "0"), ("_where", "{"))
    assert {fault.where for fault in refusal.faults} == {"nothing", "small", "_limit", "_where"}
    assert refusal.code == "NO_SUCH_FIELD"
    assert "3 more" in refusal.detail


def test_bounds_of_a_filter() -> None:
    nested: dict[str, Any] = {"small": {"eq": 1}}
    for _ in range(7):
        nested = {"_not": nested}
    body_request(SAMPLES, {"where": nested})
    assert "deeper than 8" in refused_body({"where": {"_not": nested}}).detail
    many = {"_or": [{"small": {"eq": number}} for number in range(50)]}
    body_request(SAMPLES, {"where": many})
    many["_or"].append({"small": {"eq": 50}})
    assert "more than 50 predicates" in refused_body({"where": many}).detail
    values = list(range(1000))
    body_request(SAMPLES, {"where": {"small": {"in": values}}})
    assert "more than 1000 values" in refused_body({"where": {"small": {"in": [*values, 0]}}}).detail


def test_a_flood_of_faults_is_cut() -> None:
    refusal = refused(*((f"n{number}", "1") for number in range(10_000)))
    assert len(refusal.faults) == 50


# --- facts, counts, documents ----------------------------------------------------------------------------------------

SINCE = ("time.gte", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "pairs",
    [
        [SINCE],
        [("time", "2026-01-01T00:00:00Z")],
        [("command_id", "0abc0000-0000-7000-8000-00000000000f")],
        [("_where", '{"time":{"gt":"2026-01-01T00:00:00Z"},"_or":[{"source":{"eq":"a"}}]}')],
    ],
)
def test_facts_within_a_time_are_given(pairs: list[tuple[str, str]]) -> None:
    assert page_request(READINGS, pairs).where is not None


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("source", "a")],
        [("time.lt", "2026-01-01T00:00:00Z")],
        [("_where", '{"_not":{"time":{"gte":"2026-01-01T00:00:00Z"}}}')],
        [("_where", '{"_or":[{"time":{"gte":"2026-01-01T00:00:00Z"}},{"source":{"eq":"a"}}]}')],
        [("command_id.neq", "0abc0000-0000-7000-8000-00000000000f")],
    ],
)
def test_facts_without_a_bound_are_refused(pairs: list[tuple[str, str]]) -> None:
    for read_pairs in (page_request, count_request):
        with pytest.raises(RequestRefused) as caught:
            read_pairs(READINGS, pairs)
        assert caught.value.code == "TIME_BOUND_REQUIRED"
        assert "time.gte" in caught.value.detail


def test_an_estimate_of_facts_needs_no_bound() -> None:
    assert count_request(READINGS, [("_mode", "estimated")]).mode is CountMode.ESTIMATED


def test_a_count_has_a_mode() -> None:
    assert count_request(SAMPLES, [("small", "1")]).mode is CountMode.EXACT
    for mode in ("none", "all"):
        with pytest.raises(RequestRefused, match="exact, estimated"):
            count_request(SAMPLES, [("_mode", mode)])


def test_a_document_has_fields() -> None:
    assert fields_request(SAMPLES, []) == ()
    assert fields_request(SAMPLES, [("_fields", "name,id")]) == ("name", "id")
    with pytest.raises(RequestRefused, match="single document"):
        fields_request(SAMPLES, [("name", "a")])
