"""Declared queries by name: who may ask, which values they take, what becomes of one that does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.support.engine.projections import DAYS, STOCKS
from tidemill.domain.errors import ContractError, RequestRefused
from tidemill.domain.query import Query
from tidemill.domain.request_codes import RequestCode
from tidemill.domain.table_shape import TableShape
from tidemill.queries.cursors import Cursors
from tidemill.queries.declared import MAX_LIMIT, DeclaredQueries
from tidemill.queries.parameters import parameter_value
from tidemill.queries.ports import Place, PlacedRow
from tidemill.security.principals import Grant, Principal, PrincipalKind, Verb

STOCK = Query(
    "stock-of-good",
    "select good, amount from stocks where good = :good and amount >= :least",
    parameters={"good": str, "least": int},
    returns={"good": str, "amount": int},
    reads=("stocks", "days"),
)
LOST = Query("lost", "select 1 as a", returns={"a": int}, reads=("nothing",))
VALUES = {"good": "tea", "least": "3"}


@dataclass
class Store:
    """Notes what it is asked, and has three rows. `faults`: of the next checks."""

    faults: list[str | None] = field(default_factory=list)
    checked: list[tuple[str, list[TableShape]]] = field(default_factory=list)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    count: int = 3
    constant: str | None = "1"

    async def fault(self, query: Query, tables: Sequence[TableShape]) -> str | None:
        self.checked.append((query.name, list(tables)))
        return self.faults.pop(0) if self.faults else None

    async def rows(
        self, query: Query, values: Sequence[Any], limit: int, timeout_s: float, after: Place | None = None
    ) -> list[PlacedRow]:
        self.asked.append((query.name, list(values), limit, timeout_s))
        first = 0 if after is None else int(after[0] or 0)
        return [
            PlacedRow(f'{{"a":{number}}}', (str(number), self.constant) if query.order else ())
            for number in range(first + 1, self.count + 1)
        ][:limit]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def queries(store: Store) -> DeclaredQueries:
    return DeclaredQueries({"stock-of-good": STOCK, "lost": LOST}, {"stocks": STOCKS, "days": DAYS}, store)


def principal(**grants: Grant) -> Principal:
    return Principal("ada", PrincipalKind.PERSON, grants)


READ = Grant(frozenset({Verb.READ}))


async def refusal(queries: DeclaredQueries, *arguments: Any, **options: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        await queries.run(*arguments, **options)
    return refused.value


async def test_values_are_bound_in_the_order_of_the_parameters(
    queries: DeclaredQueries, store: Store
) -> None:
    answer = await queries.run("stock-of-good", {"least": 3, "good": "tea"}, limit=2, timeout_s=99)
    assert (answer.json, answer.more) == ('[{"a":1},{"a":2}]', True)
    assert not (await queries.run("stock-of-good", VALUES, limit=3)).more
    assert store.asked[0] == ("stock-of-good", ["tea", 3], 3, 30.0)
    assert len(store.checked) == 1, "it is checked once"


@pytest.mark.parametrize(
    ("values", "code", "places"),
    [
        ({"good": "tea"}, RequestCode.BAD_PARAMETER, ["/parameters/least"]),
        (VALUES | {"more": 1}, RequestCode.BAD_PARAMETER, ["/parameters/more"]),
        ({"good": 1, "least": "x"}, RequestCode.BAD_VALUE, ["/parameters/good", "/parameters/least"]),
    ],
)
async def test_wrong_values_are_all_named(
    queries: DeclaredQueries, values: dict[str, Any], code: RequestCode, places: list[str]
) -> None:
    refused = await refusal(queries, "stock-of-good", values)
    assert (refused.code, [fault.where for fault in refused.faults]) == (code, places)


@pytest.mark.parametrize("limit", [0, 1001])
async def test_a_limit_out_of_range_is_refused(queries: DeclaredQueries, limit: int) -> None:
    assert (await refusal(queries, "stock-of-good", VALUES, limit=limit)).code is RequestCode.LIMIT_TOO_LARGE


async def test_who_asks_must_be_allowed_to_read_all_that_it_reads(
    queries: DeclaredQueries, store: Store
) -> None:
    hidden = Grant(frozenset({Verb.READ}), hidden=frozenset({"amount"}))
    create = Grant(frozenset({Verb.CREATE}))
    unknown = await refusal(queries, "nothing", {}, principal(stocks=READ, days=READ))
    for grants in ({}, {"stocks": READ}, {"stocks": READ, "days": hidden}, {"stocks": READ, "days": create}):
        refused = await refusal(queries, "stock-of-good", {}, principal(**grants))
        assert (refused.code, refused.detail.replace("stock-of-good", "nothing")) == (
            RequestCode.NO_QUERY,
            unknown.detail,
        )
        assert queries.visible(principal(**grants)) == []
    assert (store.asked, store.checked) == ([], []), "whatever is not allowed asks the database nothing"
    allowed = principal(stocks=READ, days=READ)
    assert queries.visible(allowed) == [STOCK]
    assert len((await queries.run("stock-of-good", VALUES, allowed)).rows) == 3
    assert queries.visible() == [LOST, STOCK]


async def test_a_query_that_does_not_fit_stops_alone_and_works_again_once_it_fits(
    queries: DeclaredQueries, store: Store
) -> None:
    store.faults = ["it has no column amount", "it has no column amount"]
    assert await queries.check() == {
        "stock-of-good": "it has no column amount",
        "lost": "there is no collection nothing",
    }
    refused = await refusal(queries, "stock-of-good", VALUES)
    assert (refused.code, refused.detail) == (
        RequestCode.QUERY_UNFIT,
        "query stock-of-good does not fit the database",
    )
    assert store.asked == []
    assert len((await queries.run("stock-of-good", VALUES)).rows) == 3
    assert (await refusal(queries, "lost", {})).code is RequestCode.QUERY_UNFIT


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (str, "", ""),
        (int, 2**63 - 1, 2**63 - 1),
        (int, "-9223372036854775808", -(2**63)),
        (float, 1, 1.0),
        (float, "1e-3", 0.001),
        (float, "-Infinity", float("-inf")),
        (bool, True, True),
        (bool, "false", False),
        (Decimal, "1.10", Decimal("1.10")),
        (Decimal, 7, Decimal(7)),
        (datetime, "2026-11-30T10:00:00.123456Z", datetime(2026, 11, 30, 10, 0, 0, 123456, UTC)),
        (datetime, "2026-11-30T12:00:00+02:00", datetime(2026, 11, 30, 10, tzinfo=UTC)),
        (date, "2026-11-30", date(2026, 11, 30)),
        (UUID, "00000000-0000-0000-0000-00000000000A", UUID(int=10)),
    ],
)
def test_a_value_is_read_by_its_type(kind: type, value: object, expected: object) -> None:
    read = parameter_value(kind, value)
    assert (read, type(read)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, 1),
        (str, None),
        (str, "a\x00"),
        (str, "\ud800"),
        (str, "x" * 16_385),
        (int, True),
        (int, 1.0),
        (int, 2**63),
        (int, "1.0"),
        (int, "\u0661"),
        (float, True),
        (float, "1_0"),
        (bool, 1),
        (bool, "True"),
        (Decimal, 1.1),
        (Decimal, "NaN"),
        (datetime, "2026-11-30T10:00:00"),
        (datetime, "2026-11-30 10:00:00Z"),
        (datetime, "2026-13-30T10:00:00Z"),
        (datetime, "9999-12-31T23:59:59.999999Z"),
        (datetime, "0001-01-01T00:00:00+14:00"),
        (date, "2026-11-31"),
        (date, "9999-12-31"),
        (UUID, "abc"),
        (UUID, ["abc"]),
    ],
)
def test_a_value_of_another_type_is_refused(kind: type, value: object) -> None:
    with pytest.raises(RequestRefused):
        parameter_value(kind, value)


# --- page by page ----------------------------------------------------------------------------------------------------

NUMBERS = Query(
    "numbers",
    "select a, good from stocks where good = :good order by a",
    parameters={"good": str},
    returns={"a": int, "good": str},
    reads=("stocks",),
    order=("a",),
    constant=("good",),
)


def paged(store: Store, key: bytes = b"k") -> DeclaredQueries:
    others = {"stock-of-good": STOCK, "numbers": NUMBERS}
    return DeclaredQueries(others, {"stocks": STOCKS, "days": DAYS}, store, Cursors(key))


TEA = {"good": "tea"}


async def test_an_answer_goes_on_by_its_cursor_until_its_end(store: Store) -> None:
    queries, cursor = paged(store), None
    rows: list[str] = []
    for expected in (2, 1):
        page = await queries.run("numbers", TEA, limit=2, after=cursor)
        assert len(page.rows) == expected
        rows += page.rows
        cursor = page.next
    assert rows == ['{"a":1}', '{"a":2}', '{"a":3}']
    assert cursor is None


async def test_without_an_order_there_is_no_cursor(store: Store) -> None:
    page = await paged(store).run("stock-of-good", VALUES, limit=2)
    assert (page.more, page.next) == (True, None)
    assert (await refusal(paged(store), "stock-of-good", VALUES, after="x")).request_code == "CURSOR_MISMATCH"


async def test_a_cursor_is_of_one_query_its_values_and_the_key_of_all_processes(store: Store) -> None:
    cursor = (await paged(store).run("numbers", TEA, limit=2)).next
    for queries, values in ((paged(store), {"good": "salt"}), (paged(store, b"other"), TEA)):
        assert (await refusal(queries, "numbers", values, after=cursor)).request_code == "CURSOR_MISMATCH"
    assert len((await paged(store).run("numbers", TEA, after=cursor)).rows) == 1


@pytest.mark.parametrize(("constant", "count"), [("2", 3), ("1", 2), ("2", 0)])
async def test_rows_that_were_replaced_are_not_taken_for_the_rest(
    store: Store, constant: str, count: int
) -> None:
    """There were more rows than the first page had, so that none at all is a change, too."""
    queries = paged(store)
    cursor = (await queries.run("numbers", TEA, limit=2)).next
    store.constant, store.count = constant, count
    assert (await refusal(queries, "numbers", TEA, limit=2, after=cursor)).request_code == "REPLACED"


async def test_an_operator_gets_as_many_rows_as_asked_for(store: Store) -> None:
    store.count = 3 * MAX_LIMIT + 5
    for limit, expected, more in (
        (MAX_LIMIT, MAX_LIMIT, True),
        (2_500, 2_500, True),
        (9_999, store.count, False),
    ):
        answer = await paged(store).walk("numbers", TEA, limit)
        assert (len(answer.rows), answer.more) == (expected, more)
        assert len(set(answer.rows)) == expected
    assert len((await paged(store).walk("stock-of-good", VALUES, MAX_LIMIT)).rows) == MAX_LIMIT
    with pytest.raises(RequestRefused, match="ask for 1 to 1000 rows, not 9999"):
        await paged(store).walk("stock-of-good", VALUES, 9_999)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"order": ("b",)}, "does not return b"),
        ({"constant": ("good",)}, "has no order"),
        ({"returns": {"a": dict}, "order": ("a",)}, "cannot be ordered by a, which is JSON"),
    ],
)
def test_an_order_that_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    fields: dict[str, Any] = {"returns": {"a": int, "good": str}, "reads": ("stocks",)} | wrong
    with pytest.raises(ContractError, match=said):
        Query("numbers", "select a, good from stocks", **fields)
