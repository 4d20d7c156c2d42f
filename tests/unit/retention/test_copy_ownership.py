"""Whose copy a file is: by the requests' ids in its name, and by where earlier copies were said to be."""

from dataclasses import replace
from uuid import UUID

import pytest

from tests.support.archive.slices import (
    FILE,
    LIMITS,
    NOW,
    brought_to,
    copy_of,
    measured_slice,
    moved,
    slice_id,
)
from tidemill.domain.archive.slices import ArchiveState
from tidemill.retention import operator_transitions, requests, transitions
from tidemill.retention.copy_ownership import why_not_own
from tidemill.retention.slices import CopyLocation, Slice

OWN, OTHER, FOREIGN = (
    requests.request_id(registry, [measured_slice(slice_id(day))])
    for registry, day in (("a", 1), ("a", 2), ("b", 1))
)
"""Two requests of a registry, and one of another."""

EARLIER = str(UUID(int=7))
WHICH = replace(brought_to(ArchiveState.CONFIRMED), event_id=OWN, superseded=(EARLIER,))


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (f"/lake/20200101T000000Z-g1-{OWN}-0.parquet", None),
        (f"/lake/{OWN}/{OWN}-1.parquet", None),
        ("/lake/part-0.parquet", None),
        (f"/lake/{FOREIGN}.parquet", None),  # of a registry that we know nothing of
        (f"/lake/{EARLIER}/part-0.parquet", f"request {EARLIER}, which this one supersedes"),
        (f"/lake/{OWN}/{EARLIER}-0.parquet", f"request {EARLIER}, which this one supersedes"),
        (f"/lake/{OTHER}-0.parquet", f"request {OTHER}: "),
        (f"/lake/{OWN}/{OTHER}-0.parquet", f"request {OTHER}: "),
        ("/lake/old/part-0.parquet", "a copy for an earlier request"),
        ("/lake/old.parquet", "a copy for an earlier request"),
        ("/lake/older/part-0.parquet", None),
        (f"/lake/old/{OWN}-0.parquet", None),
    ],
)
def test_a_file_is_the_requests_own_unless_another_left_it(file: str, why: str | None) -> None:
    found = why_not_own(WHICH, file, ["/lake/old/", "/lake/old.parquet"])
    assert (found is None) == (why is None)
    assert (why or "") in (found or "")


def test_the_next_seal_knows_where_the_copies_of_all_earlier_ones_were_said_to_be() -> None:
    first = brought_to(ArchiveState.QUARANTINED)
    again = retried(first)
    assert again.left_at == ("/lake/ticks/part-0.parquet",)
    assert retried(again).left_at == again.left_at, "nothing was told of that one"
    copied = transitions.request(
        moved(transitions.measure(again, NOW, seal=again.seal, found=first.sealed)),  # type: ignore[arg-type]
        NOW,
        event_id="e2",
        limits=LIMITS,
    )
    told = CopyLocation("e2", 1, "/lake/e2")
    there = moved(transitions.confirm(moved(copied), NOW, copy=told, who="ada"))
    assert retried(there).left_at == ("/lake/ticks/part-0.parquet", "/lake/e2")


def retried(which: Slice) -> Slice:
    aside = replace(which, state=ArchiveState.QUARANTINED)
    return moved(operator_transitions.retry(aside, NOW, who="ada", why="mended"))


def test_what_is_told_below_a_folder_has_its_whole_path() -> None:
    files = tuple(FILE._replace(path=path) for path in ("a.parquet", "/b.parquet", "s3://c/d.parquet"))
    copy = copy_of(WHICH, location="/lake/ticks/", files=files)
    assert copy.places == ("/lake/ticks/a.parquet", "/b.parquet", "s3://c/d.parquet")
    assert CopyLocation("e", 1, "").places == ()
