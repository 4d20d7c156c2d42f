"""Values as JSON: PostgreSQL's bytes equal Python's, for every type and every value that is hard."""

from __future__ import annotations

import json

import asyncpg
import pytest

from tests.support.engine.collections import all_collections, hard_rows, insert
from tests.support.json_reference import encoded_row
from tidemill.queries.reader import CollectionReader
from tidemill.queries.request import PageRequest
from tidemill.storage.queries.rows import CollectionDatabase

SAMPLES = all_collections().visible("samples")


@pytest.mark.parametrize("native", [False, True])
async def test_every_value_is_encoded_as_python_does(
    samples_url: str, store: CollectionDatabase, native: bool
) -> None:
    rows = hard_rows()
    await insert(samples_url, SAMPLES, rows)
    reader = CollectionReader(store, key=b"k")
    columns = list(SAMPLES.columns.values())
    expected = [encoded_row(columns, row, native=native) for row in rows]

    page = await reader.page(SAMPLES, PageRequest(numbers_native=native))
    assert page.rows.decode() == f"[{','.join(expected)}]"
    for row, text in zip(rows, expected, strict=True):
        document = await reader.document(SAMPLES, [row["id"]], numbers_native=native)
        assert document is not None
        assert document.body.decode() == text


async def test_a_few_are_written_as_the_page_about_http_says(
    samples_url: str, store: CollectionDatabase
) -> None:
    connection = await asyncpg.connect(samples_url)
    await connection.execute(
        "insert into samples (id, big, amount, ratio, at, raw, ref, span, times, version) values "
        "('a', 9007199254740993, 1.50, 'NaN', '2026-11-30T12:00:00.5+02', '\\x00ff', "
        "'0ABC0000-0000-7000-8000-00000000000F', '1 year 2 mons 3 days 01:02:03.5', '{infinity, null}', 3), "
        "('b', null, 1e25, '-Infinity', '0044-03-15 00:00:00+00 BC', null, null, null, null, 4), "
        "('c', null, null, null, '12345-01-01 00:00:00+00', null, null, null, null, 5)"
    )
    await connection.close()
    page = await CollectionReader(store, key=b"k").page(
        SAMPLES,
        PageRequest(("id", "big", "amount", "ratio", "at", "raw", "ref", "span", "times", "version")),
    )
    first, second, third = json.loads(page.rows)
    assert first == {
        "id": "a",
        "big": "9007199254740993",
        "amount": "1.50",
        "ratio": "NaN",
        "at": "2026-11-30T10:00:00.500000Z",
        "raw": "AP8=",
        "ref": "0abc0000-0000-7000-8000-00000000000f",
        "span": "P14M3DT3723.500000S",
        "times": ["infinity", None],
        "version": 3,
    }
    assert second["amount"] == "10000000000000000000000000"
    assert second["ratio"] == "-Infinity"
    assert second["at"] == "0044-03-15 00:00:00+00 BC"  # no form of ISO 8601 that clients read
    assert third["at"] == "12345-01-01T00:00:00.000000Z"
