"""A copy in an Iceberg table is what the table has, not what lies beside it; no copy is what another request left."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.archive.slices import ROWS, brought_to, copy_of
from tidemill.domain.archive.slices import ArchiveState, LakeColumn, LakeFile, Measured
from tidemill.domain.errors import CopyError
from tidemill.lakehouse.copy_reader import LakeCopies
from tidemill.lakehouse.reader import LakeReader
from tidemill.lakehouse.spans import Bounds
from tidemill.retention.ports import CopyToVerify


class Sound(LakeReader):
    """Every file is there, and holds what it should."""

    def __init__(self, root: str = "/lake") -> None:
        super().__init__([root])

    def damaged(self, file: LakeFile) -> str | None:
        return None

    def read_back(
        self,
        files: Sequence[str],
        columns: Sequence[LakeColumn],
        time_column: str,
        bounds: Bounds | None = None,
    ) -> Measured:
        return ROWS


def measured(lake_format: str, unregistered: Sequence[str] | None) -> Mapping[Any, Measured]:
    which = brought_to(ArchiveState.CONFIRMED)
    copies = LakeCopies(Sound(), None if unregistered is None else lambda _table, _paths: list(unregistered))
    return copies.measure([CopyToVerify(which, copy_of(which, lake_format=lake_format))], "time")


def test_a_file_that_the_table_does_not_have_is_no_copy() -> None:
    with pytest.raises(CopyError, match=r"/lake/ticks/a\.parquet: the table does not have it"):
        measured("iceberg", ["/lake/ticks/a.parquet"])


@pytest.mark.parametrize(
    ("lake_format", "unregistered"), [("iceberg", []), ("iceberg", None), ("parquet", ["x"])]
)
def test_a_table_that_has_them_and_loose_files_are_copies(
    lake_format: str, unregistered: Sequence[str] | None
) -> None:
    assert list(measured(lake_format, unregistered).values()) == [ROWS]


def test_a_link_to_where_an_earlier_copy_was_said_to_be_is_that_place(tmp_path: Path) -> None:
    """Paths are compared as storage has them."""
    (tmp_path / "link").symlink_to(tmp_path / "old")
    which = replace(brought_to(ArchiveState.CONFIRMED), left_at=(f"{tmp_path}/old", "/etc/passwd"))
    copies = LakeCopies(Sound(str(tmp_path)))
    copy = copy_of(which, location=f"{tmp_path}/link")
    with pytest.raises(CopyError, match="a copy for an earlier request"):
        copies.measure([CopyToVerify(which, copy)], "time")
    copy = copy_of(which, location=f"{tmp_path}/new")
    assert list(copies.measure([CopyToVerify(which, copy)], "time").values()) == [ROWS]
