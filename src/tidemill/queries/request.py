"""Requests for pages and counts: what is asked for, and how it is read from the parameters of a URL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tidemill.domain.request_codes import RequestCode
from tidemill.domain.strict_json import JsonFault
from tidemill.queries.collections import VisibleCollection
from tidemill.queries.fault_list import FaultList
from tidemill.queries.filters import EVERYTHING, Filter, FilterGroup
from tidemill.queries.json_filters import JsonFilters
from tidemill.queries.json_values import parsed, sentence
from tidemill.queries.operands import Operands
from tidemill.queries.time_bounds import demand_time_bound

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1_000
MAX_SORT: Final = 4
MAX_LIMIT_DIGITS: Final = 9


class CountMode(StrEnum):
    """How rows are counted. `CAPPED`: up to 10,001. `ESTIMATED`: as the database plans."""

    NONE = "none"
    EXACT = "exact"
    ESTIMATED = "estimated"
    CAPPED = "capped"


_MODES: Final = frozenset(mode.value for mode in CountMode)


@dataclass(frozen=True, slots=True)
class SortKey:
    """A column that rows are sorted by."""

    column: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page that is asked for. `fields`: empty for all. `sort`: as asked; the key is appended to it.

    `after`: a cursor, which was not looked at. `numbers_native`: int8 and numeric are number tokens. `timeout_s`: of
    the database, for each statement.
    """

    fields: tuple[str, ...] = ()
    where: Filter = EVERYTHING
    sort: tuple[SortKey, ...] = ()
    limit: int = DEFAULT_LIMIT
    after: str | None = None
    count: CountMode = CountMode.NONE
    numbers_native: bool = False
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class CountRequest:
    """A count that is asked for."""

    where: Filter = EVERYTHING
    mode: CountMode = CountMode.EXACT
    timeout_s: float = 5.0


def page_request(collection: VisibleCollection, pairs: Sequence[tuple[str, str]]) -> PageRequest:
    """Read the parameters of a URL, names and values decoded.

    Raises `RequestRefused` with all that is wrong; its code is that of the first fault.
    """
    faults = FaultList("parameter")
    controls, filters = _divided(pairs, {"_fields", "_sort", "_limit", "_after", "_count", "_where"}, faults)
    where = url_filter(collection, filters, controls.get("_where"), faults)
    fields = controls.get("_fields")
    sort = controls.get("_sort")
    request = PageRequest(
        fields=() if fields is None else read_fields(collection, fields.split(","), "_fields", faults),
        where=where,
        sort=() if sort is None else read_sort(collection, sort.split(","), "_sort", faults),
        limit=_limit(controls.get("_limit"), faults),
        after=controls.get("_after"),
        count=read_count(controls.get("_count", "none"), "_count", faults),
    )
    faults.raise_any()
    demand_time_bound(collection, where)
    return request


def count_request(collection: VisibleCollection, pairs: Sequence[tuple[str, str]]) -> CountRequest:
    """Read the parameters of a count: filters, `_where` and `_mode`. Raises `RequestRefused`."""
    faults = FaultList("parameter")
    controls, filters = _divided(pairs, {"_where", "_mode"}, faults)
    where = url_filter(collection, filters, controls.get("_where"), faults)
    mode = read_count(controls.get("_mode", "exact"), "_mode", faults)
    if mode is CountMode.NONE:
        faults.add("_mode", "is exact, estimated or capped", RequestCode.BAD_PARAMETER)
    faults.raise_any()
    if mode is not CountMode.ESTIMATED:
        demand_time_bound(collection, where)
    return CountRequest(where, mode)


def fields_request(collection: VisibleCollection, pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Read the parameters of a single document: `_fields`, and nothing else. Raises `RequestRefused`."""
    faults = FaultList("parameter")
    controls, filters = _divided(pairs, {"_fields"}, faults)
    for name, _ in filters:
        faults.add(name, "is not a parameter of a single document", RequestCode.BAD_PARAMETER)
    fields = controls.get("_fields")
    names = () if fields is None else read_fields(collection, fields.split(","), "_fields", faults)
    faults.raise_any()
    return names


# --- parts, which bodies have as well --------------------------------------------------------------------------------


def read_fields(
    collection: VisibleCollection, names: Sequence[object], where: str, faults: FaultList
) -> tuple[str, ...]:
    """Return the names of fields; what is wrong with them is added to `faults`."""
    chosen: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str) or collection.column(name) is None:
            faults.no_such_field(where, name)
        elif name in chosen:
            faults.add(where, f"{name} is named twice", RequestCode.BAD_PARAMETER)
        else:
            chosen[name] = None
    if not names:
        faults.add(where, "names no field", RequestCode.BAD_PARAMETER)
    return tuple(chosen)


def read_sort(
    collection: VisibleCollection, items: Sequence[object], where: str, faults: FaultList
) -> tuple[SortKey, ...]:
    """Return the keys of a sort, `-` before a descending one; what is wrong with them is added to `faults`."""
    keys: dict[str, SortKey] = {}
    if len(items) > MAX_SORT:
        faults.add(where, f"has more than {MAX_SORT} columns", RequestCode.BAD_PARAMETER)
    for item in items[:MAX_SORT]:
        name = item.removeprefix("-") if isinstance(item, str) else item
        column = collection.column(name) if isinstance(name, str) else None
        if column is None:
            faults.no_such_field(where, name)
        elif not column.type.sortable:
            faults.add(where, f"rows cannot be sorted by {name}", RequestCode.NOT_FILTERABLE)
        elif column.name in keys:
            faults.add(where, f"{name} is named twice", RequestCode.BAD_PARAMETER)
        else:
            keys[column.name] = SortKey(column.name, item != name)
    return tuple(keys.values())


def read_count(text: object, where: str, faults: FaultList) -> CountMode:
    """Return the mode of a count; an unknown one is added to `faults`."""
    if isinstance(text, str) and text in _MODES:
        return CountMode(text)
    faults.add(where, "is none, exact, estimated or capped", RequestCode.BAD_PARAMETER)
    return CountMode.NONE


def check_limit(limit: int, where: str, faults: FaultList) -> int:
    """Return the limit, or the default in place of one that is out of range, which is added to `faults`."""
    if limit > MAX_LIMIT:
        faults.add(where, f"is more than {MAX_LIMIT}", RequestCode.LIMIT_TOO_LARGE)
    elif limit < 1:
        faults.add(where, "is less than 1", RequestCode.BAD_PARAMETER)
    else:
        return limit
    return DEFAULT_LIMIT


# --- the URL ---------------------------------------------------------------------------------------------------------


def _divided(
    pairs: Sequence[tuple[str, str]], known: set[str], faults: FaultList
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the control parameters by name, and the filters; an unknown or repeated control is a fault."""
    controls: dict[str, str] = {}
    filters = []
    for name, value in pairs:
        if not name.startswith("_"):
            filters.append((name, value))
        elif name not in known:
            faults.add(name, "there is no such parameter", RequestCode.BAD_PARAMETER)
        elif name in controls:
            faults.add(name, "is given twice", RequestCode.BAD_PARAMETER)
        else:
            controls[name] = value
    return controls, filters


def _limit(text: str | None, faults: FaultList) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_LIMIT_DIGITS):
        faults.add("_limit", f"is not a number from 1 to {MAX_LIMIT}", RequestCode.BAD_PARAMETER)
        return DEFAULT_LIMIT
    return check_limit(int(text), "_limit", faults)


def url_filter(
    collection: VisibleCollection,
    pairs: Sequence[tuple[str, str]],
    where: str | None,
    faults: FaultList,
) -> Filter:
    """Return the filter of a URL: `column.operator=value`, a list by repetition, and `_where` as JSON."""
    operands = Operands(collection, faults)
    parts: list[Filter] = []
    for name, texts in _grouped(pairs).items():
        column, dot, operator = name.partition(".")
        predicate = operands.from_texts(column, operator if dot else "eq", texts, name)
        if predicate is not None:
            parts.append(predicate)
    if where is not None:
        parts.append(_json_filter(where, operands, faults))
    return _joined(parts)


def _joined(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else FilterGroup("and", tuple(parts))


def _grouped(pairs: Sequence[tuple[str, str]]) -> Mapping[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for name, value in pairs:
        texts.setdefault(name, []).append(value)
    return texts


def _json_filter(text: str, operands: Operands, faults: FaultList) -> Filter:
    try:
        value = parsed(text)
    except JsonFault as fault:
        faults.add("_where", sentence(fault), RequestCode.BAD_PARAMETER)
        return EVERYTHING
    return JsonFilters(operands).read(value, "_where")
