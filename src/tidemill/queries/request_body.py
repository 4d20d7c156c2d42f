"""Requests for pages as JSON bodies: `{"where": ..., "fields": [...], "sort": [...], "limit": ..., ...}`."""

from __future__ import annotations

from typing import Any, Final

from tidemill.domain.request_codes import RequestCode
from tidemill.queries.collections import VisibleCollection
from tidemill.queries.fault_list import FaultList
from tidemill.queries.filters import EVERYTHING, Filter
from tidemill.queries.json_filters import JsonFilters
from tidemill.queries.operands import Operands
from tidemill.queries.request import (
    DEFAULT_LIMIT,
    PageRequest,
    SortKey,
    check_limit,
    read_count,
    read_fields,
    read_sort,
)
from tidemill.queries.time_bounds import demand_time_bound

MEMBERS: Final = ("where", "fields", "sort", "limit", "after", "count")


def body_request(collection: VisibleCollection, body: Any) -> PageRequest:
    """Read a decoded JSON body; an absent member, or null, is as if it was not asked for.

    Raises `RequestRefused` with all that is wrong; its code is that of the first fault.
    """
    faults = FaultList("pointer")
    if not isinstance(body, dict):
        faults.add("", "the body is not an object", RequestCode.BAD_BODY)
        faults.raise_any()
    for name in body.keys() - {*MEMBERS}:
        faults.add(f"/{name}", f"there is no such member: {', '.join(MEMBERS)}", RequestCode.BAD_BODY)
    request = _Body(collection, body, faults).request()
    faults.raise_any()
    demand_time_bound(collection, request.where)
    return request


class _Body:
    def __init__(self, collection: VisibleCollection, body: dict[str, Any], faults: FaultList) -> None:
        self._collection = collection
        self._body = body
        self._faults = faults

    def request(self) -> PageRequest:
        return PageRequest(
            fields=self._fields(),
            where=self._where(),
            sort=self._sort(),
            limit=self._limit(),
            after=self._after(),
            count=read_count(self._body.get("count") or "none", "/count", self._faults),
        )

    def _list(self, name: str) -> list[Any] | None:
        value = self._body.get(name)
        if value is None or isinstance(value, list):
            return value
        self._faults.add(f"/{name}", "is not a list of names", RequestCode.BAD_BODY)
        return None

    def _fields(self) -> tuple[str, ...]:
        names = self._list("fields")
        return () if names is None else read_fields(self._collection, names, "/fields", self._faults)

    def _sort(self) -> tuple[SortKey, ...]:
        items = self._list("sort")
        return () if items is None else read_sort(self._collection, items, "/sort", self._faults)

    def _where(self) -> Filter:
        value = self._body.get("where")
        if value is None:
            return EVERYTHING
        return JsonFilters(Operands(self._collection, self._faults)).read(value, "/where")

    def _limit(self) -> int:
        value = self._body.get("limit")
        if value is None:
            return DEFAULT_LIMIT
        if not isinstance(value, int) or isinstance(value, bool):
            self._faults.add("/limit", "is not an integer", RequestCode.BAD_BODY)
            return DEFAULT_LIMIT
        return check_limit(value, "/limit", self._faults)

    def _after(self) -> str | None:
        value = self._body.get("after")
        if value is None or isinstance(value, str):
            return value
        self._faults.add("/after", "is not a cursor", RequestCode.BAD_BODY)
        return None
