"""Filters mean the same in SQL and in Python: equal bytes over the same rows, for random trees of every operator.

`TIDEMILL_QUERY_FILTERS` is how many of them; the suite takes 500.
"""

from __future__ import annotations

import json
import os
from random import Random
from typing import Final

from tests.fakes.collections import MemoryCollections
from tests.support.engine.collections import (
    all_collections,
    hard_rows,
    insert,
    random_row,
    random_sort,
    random_where,
)
from tidemill.queries.reader import CollectionReader
from tidemill.queries.request_body import body_request
from tidemill.storage.queries.rows import CollectionDatabase

FILTERS: Final = int(os.environ.get("TIDEMILL_QUERY_FILTERS", "500"))
SAMPLES = all_collections().visible("samples")


async def test_random_filters_mean_the_same_in_sql_and_in_python(
    samples_url: str, store: CollectionDatabase, seed: int
) -> None:
    source = Random(seed)
    rows = [*hard_rows(), *(random_row(source, number) for number in range(60))]
    await insert(samples_url, SAMPLES, rows)
    real = CollectionReader(store, key=b"k")
    model = CollectionReader(MemoryCollections({"samples": rows}), key=b"k")
    sizes = set()
    for _ in range(FILTERS):
        body = {
            "where": random_where(source, SAMPLES),
            "sort": random_sort(source, SAMPLES),
            "fields": ["id", *source.sample(list(SAMPLES.columns)[1:], 2)],
            "limit": source.choice([1, 5, 100]),
            "count": "exact",
        }
        request = body_request(SAMPLES, body)
        expected, actual = await model.page(SAMPLES, request), await real.page(SAMPLES, request)
        shown = json.dumps(body, ensure_ascii=False)
        assert actual.rows == expected.rows, shown
        assert (actual.row_count, actual.count) == (expected.row_count, expected.count), shown
        assert (actual.next is None) == (expected.next is None), shown
        assert expected.count is not None
        sizes.add(expected.count.count)
    assert len(sizes) > 20, "the filters must tell rows apart"
