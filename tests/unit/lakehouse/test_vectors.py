"""The published vectors hold in plain Python, in NumPy, and on the page that publishes them."""

import re
from pathlib import Path

import pytest

from tests.support.archive import lookup3
from tests.support.engine.batches import batch_of
from tidemill.domain.archive.digest import ROWS_VECTORS, VALUE_VECTORS, RowsVector, ValueVector
from tidemill.lakehouse.digest import Digest

PAGE = (Path(__file__).parents[3] / "docs" / "archival.md").read_text(encoding="utf-8")


def rows_of_table(header: str) -> list[tuple[str, ...]]:
    """The cells of a table of the page, without marks."""
    lines = PAGE[PAGE.index(header) :].splitlines()[2:]
    table = lines[: next(index for index, line in enumerate(lines) if not line.startswith("|"))]
    return [tuple(cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in table]


@pytest.mark.parametrize("vector", VALUE_VECTORS, ids=str)
def test_a_value_hashes_as_published(vector: ValueVector) -> None:
    assert f"{lookup3.hashed(bytes.fromhex(vector.hashed)):016x}" == vector.hash
    batch = batch_of(vector.columns, [(vector.literal,)])
    digest = Digest(vector.columns, "c0")
    digest._widen = lambda times: None  # type: ignore[method-assign]  # any type may stand where a time would
    digest.add(batch)
    folded = int(vector.hash, 16).to_bytes(8, "big")
    assert digest.measured().digest == "v1:{0:016x}:{0:016x}".format(lookup3.hashed(folded))


@pytest.mark.parametrize("vector", ROWS_VECTORS, ids=range(1, len(ROWS_VECTORS) + 1))
def test_rows_digest_as_published(vector: RowsVector) -> None:
    digest = Digest(vector.columns, "c0")
    digest.add(batch_of(vector.columns, vector.rows))
    assert digest.measured().digest == vector.digest
    assert digest.measured().row_count == len(vector.rows)


def test_the_page_publishes_exactly_these_values() -> None:
    published = rows_of_table("| type | value | hashed bytes | hash |")
    assert published == [
        (vector.pg_type, vector.literal or "empty", vector.hashed or "none", vector.hash)
        for vector in VALUE_VECTORS
    ]


def test_the_page_publishes_exactly_these_rows() -> None:
    published = rows_of_table("| | rows | digest |")
    assert published == [
        (
            str(number),
            "`<br>`".join(", ".join(value or "NULL" for value in row) for row in vector.rows) or "none",
            vector.digest,
        )
        for number, vector in enumerate(ROWS_VECTORS, start=1)
    ]
