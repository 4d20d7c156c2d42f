"""The records of reads say whether an index was used: each read hands the text of its statement to the sampler."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.asgi_client import SERVICE
from tests.support.engine.collections import all_collections
from tidemill.admin.service.plan_samples import PlanSampler, PlanSamples
from tidemill.admin.service.query_records import QueryRecorder
from tidemill.http.exchange import Exchange
from tidemill.http.route_table import RouteTable
from tidemill.http.routes.reads import ReadRoutes
from tidemill.http.url import segments
from tidemill.queries.archived import ArchivedSpans
from tidemill.queries.complete_reads import CompleteReads
from tidemill.queries.reader import CollectionReader
from tidemill.queries.seen_waiter import SeenWaiter
from tidemill.runtime.clock import SystemClock
from tidemill.storage.admin.service import ServiceDatabase
from tidemill.storage.database.pool import Pool
from tidemill.storage.queries.archived import ArchivedSpanDatabase
from tidemill.storage.queries.rows import CollectionDatabase
from tidemill.storage.queries.seen import SeenDatabase


async def _left() -> dict[str, Any]:
    return {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("url", "shape"),
    [
        ("/api/db/samples?_limit=1", "samples: page  sort "),
        ("/api/db/samples/count", "samples: count exact "),
        ("/api/db/samples/count?_mode=capped", "samples: count capped "),
    ],
)
async def test_the_plan_of_each_kind_of_read_is_looked_at(
    reading_pool: Pool, store: CollectionDatabase, url: str, shape: str
) -> None:
    clock, plans = SystemClock(), PlanSamples()
    recorder = QueryRecorder(clock, plans=plans)
    reads = CompleteReads(
        CollectionReader(store, key=b"k"), ArchivedSpans(ArchivedSpanDatabase(reading_pool), clock)
    )
    routes = ReadRoutes(
        collections=all_collections(),
        reads=reads,
        waiter=SeenWaiter(SeenDatabase(reading_pool), {}, clock),
        recorder=recorder,
    )
    path, _, query = url.partition("?")
    scope = {"method": "GET", "path": path, "query_string": query.encode(), "headers": []}
    exchange = Exchange(scope, _left)
    exchange.principal = SERVICE
    operation, exchange.raw = RouteTable(routes.operations()).find("GET", segments(path.encode()))
    assert (await operation.handler(exchange)).status == 200
    assert [record.index_used for record in recorder.recent()] == [None]
    await PlanSampler(plans, ServiceDatabase(reading_pool)).look()
    (record,) = recorder.recent()
    assert record.query_pattern == shape
    assert record.index_used is not None
