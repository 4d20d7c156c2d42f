"""The API as a whole: every operation, and the description of all."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.http.route_table import RouteTable
from tidemill.http.routes.probes import (
    Readiness,
    description_operation,
    page_operation,
    probe_operations,
)
from tidemill.http.routes.queries import QueryRoutes
from tidemill.http.routes.reads import ReadRoutes
from tidemill.http.routes.service import ServiceRoutes, later_operations
from tidemill.http.routes.writes import WriteRoutes


@dataclass(frozen=True, kw_only=True)
class ApiRoutes:
    """The operations by what they are about. `ready`: whether requests are answered now."""

    reads: ReadRoutes
    writes: WriteRoutes
    queries: QueryRoutes
    service: ServiceRoutes
    ready: Readiness


def api(routes: ApiRoutes, version: str) -> RouteTable:
    """Return the table of all operations. `version`: of the description."""
    operations = [
        *routes.service.operations(),
        *routes.reads.operations(),
        *routes.writes.operations(),
        *routes.queries.operations(),
        *later_operations(),
        *probe_operations(routes.ready),
    ]
    return RouteTable([*operations, description_operation(operations, version), page_operation()])
