"""Generated SQL: a column's value as the JSON that answers have, one expression for each type.

The rest is what `row_to_json` does: shortest floats, `NaN` and infinities as strings, dates and times of ISO 8601,
jsonb as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tidemill.queries.collections import VisibleColumn
from tidemill.queries.value_types import FieldType, value_type
from tidemill.storage.database.table_sql import quoted

_MICROSECONDS: Final = 'YYYY-MM-DD"T"HH24:MI:SS.US'


def json_row(columns: Iterable[VisibleColumn], source: str, *, native: bool) -> str:
    """Return the expression of a row as a JSON object's text. `source`: the alias of the rows."""
    members = ", ".join(
        f"{json_value(column, f'{source}.{quoted(column.name)}', native=native)} as {quoted(column.name)}"
        for column in columns
    )
    return f"(select row_to_json(tm_e)::text from (select {members}) tm_e)"


def json_value(column: VisibleColumn, value: str, *, native: bool) -> str:
    """Return the expression that `row_to_json` gets for a column. `native`: int8 and numeric as numbers."""
    if column.counter:
        return value
    if column.type.element is not None:
        return _array(column.type.element, value, native=native)
    return _scalar(column.type, value, native=native)


def json_scalar(type_name: str, value: str) -> str:
    """Return the expression of a value of a scalar type, by the type's name in SQL."""
    return _scalar(value_type(type_name), value, native=False)


def _scalar(of: FieldType, value: str, *, native: bool) -> str:
    if of.name in ("bigint", "numeric"):
        return value if native else f"{value}::text"
    return _EXPRESSIONS.get(of.name, _as_text)(value)


def _array(element: FieldType, value: str, *, native: bool) -> str:
    item = _scalar(element, "u.v", native=native)
    if item == "u.v":
        return value
    if item == "u.v::text":
        return f"{value}::text[]"
    ordered = f"select {item} from unnest({value}) with ordinality as u (v, n) order by u.n"
    return f"case when {value} is not null then array({ordered}) end"


def _unchanged(value: str) -> str:
    return value


def _as_text(value: str) -> str:
    return f"{value}::text"


def _instant(value: str) -> str:
    form = f"to_char({value} at time zone 'UTC', '{_MICROSECONDS}\"Z\"')"
    return _within_years(value, "timestamptz", "0001-01-01 00:00:00+00", form)


def _moment(value: str) -> str:
    return _within_years(value, "timestamp", "0001-01-01 00:00:00", f"to_char({value}, '{_MICROSECONDS}')")


def _within_years(value: str, kind: str, first: str, form: str) -> str:
    """`to_char` knows neither infinity nor the sign of a year: these are written as PostgreSQL writes them."""
    finite = f"{value} >= {kind} '{first}' and {value} < {kind} 'infinity'"
    return f"case when {finite} then {form} else {value}::text end"


def _interval(value: str) -> str:
    """Months, days and seconds, since none of them is a number of another."""
    months = f"extract(year from {value}) * 12 + extract(month from {value})"
    seconds = f"extract(hour from {value}) * 3600 + extract(minute from {value}) * 60 + extract(second from {value})"
    return (
        f"case when isfinite({value}) then 'P' || ({months}) || 'M' || extract(day from {value}) || 'DT' "
        f"|| ({seconds}) || 'S' else {value}::text end"
    )


def _base64(value: str) -> str:
    return f"translate(encode({value}, 'base64'), E'\\n', '')"


_EXPRESSIONS: Final[dict[str, Callable[[str], str]]] = {
    **dict.fromkeys(
        ("smallint", "integer", "real", "double precision", "text", "boolean", "date", "time", "uuid"),
        _unchanged,
    ),
    "jsonb": _unchanged,
    "json": _unchanged,
    "timestamptz": _instant,
    "timestamp": _moment,
    "interval": _interval,
    "bytea": _base64,
}
