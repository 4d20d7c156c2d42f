"""What may come back from the lake, and what stands in the way."""

from dataclasses import replace
from datetime import datetime

import pytest

from tests.support.archive.slices import COLUMNS, DAY, HOLD, NOW, ROWS, brought_to, moved, slice_id
from tidemill.domain.archive.slices import ArchiveState, LakeColumn, LakeType, Measured, Source
from tidemill.retention import operator_transitions
from tidemill.retention.planner import ChunkFacts, Facts
from tidemill.retention.restore_plan import Alterations, RestorableRange, ranges_back
from tidemill.retention.slices import Slice, Verification, together

S = ArchiveState
FIRST = slice_id()
SECOND = slice_id(generation=2)
EMPTY = Measured(0, f"v1:{0:016x}:{0:016x}", None, None)


def back(*slices: Slice, chunks: tuple[ChunkFacts, ...] = ()) -> list[RestorableRange]:
    facts = Facts("public.ticks", chunks=chunks, slices=slices)
    return ranges_back(facts, FIRST.start, FIRST.end)


def gone(generation: int = 1) -> Slice:
    return brought_to(S.DROPPED, slice_id(generation=generation))


def test_all_generations_of_a_range_come_back_together() -> None:
    (found,) = back(gone(2), gone())
    assert [each.id.generation for each in found.slices] == [1, 2]
    assert (found.row_count, found.size_bytes, found.files, found.refused) == (4, 500, 2, None)


@pytest.mark.parametrize("day", [-1, 1])
def test_only_ranges_that_share_time_with_the_span_come_back(day: int) -> None:
    assert back(brought_to(S.DROPPED, slice_id(day))) == []


def test_a_span_within_a_range_brings_all_of_it() -> None:
    facts = Facts("public.ticks", slices=(gone(),))
    noon = FIRST.start + DAY / 2
    assert [each.start for each in ranges_back(facts, noon, noon + DAY / 100)] == [FIRST.start]


@pytest.mark.parametrize("state", [S.SEALED, S.VERIFIED, S.QUARANTINED, S.ABORTED])
def test_what_never_left_is_not_brought_back(state: ArchiveState) -> None:
    assert back(brought_to(state)) == []


def test_a_range_that_is_on_its_way_is_waited_for() -> None:
    (found,) = back(gone(), brought_to(S.REQUESTED, SECOND, source=Source.LATE))
    assert "generation 2 is requested" in (found.refused or "")


@pytest.mark.parametrize("held", [False, True])
def test_a_range_comes_back_once(held: bool) -> None:
    there = brought_to(S.RESTORED)
    if held:
        there = moved(operator_transitions.hold(there, NOW, who=HOLD.who, why=HOLD.reason))
    (found,) = back(there)
    assert "restored already" in (found.refused or "")


def test_a_chunk_of_external_writers_stands_in_the_way() -> None:
    external_writes = ChunkFacts("_internal.new", FIRST.start - DAY, FIRST.start + DAY / 2, 100)
    (found,) = back(gone(), chunks=(external_writes,))
    assert "_internal.new" in (found.refused or "")
    beside = ChunkFacts("_internal.new", FIRST.end, FIRST.end + DAY, 100)
    assert back(gone(), chunks=(beside,))[0].refused is None


@pytest.mark.parametrize("state", [S.RESTORED, S.SEALED])
def test_a_range_that_overlaps_another_one_waits_for_it(state: ArchiveState) -> None:
    longer = brought_to(S.DROPPED, replace(SECOND, end=FIRST.end + 6 * DAY))
    other = brought_to(state, slice_id(3))
    (found,) = back(longer, other)
    assert f"{other.id}, which overlaps it, is {state}" in (found.refused or "")


def test_ranges_that_begin_together_come_back_one_by_one() -> None:
    longer = brought_to(S.DROPPED, replace(SECOND, end=FIRST.end + 6 * DAY))
    found = back(gone(), longer)
    assert [(each.end, each.slices, each.refused) for each in found] == [
        (FIRST.end, (gone(),), None),
        (longer.id.end, (longer,), None),
    ]


def test_a_range_without_rows_has_nothing_to_bring() -> None:
    one = gone()
    assert one.copy is not None
    (found,) = back(replace(one, verified=Verification(one.copy, EMPTY, NOW)))
    assert found.refused == "it has no rows"


def test_generations_of_other_columns_cannot_be_proved_together() -> None:
    other = (*COLUMNS, LakeColumn("new", "integer", LakeType.INT32, nullable=True))
    (found,) = back(gone(), replace(gone(2), columns=other))
    assert "columns changed" in (found.refused or "")


def test_alterations_name_what_differs_and_what_to_do() -> None:
    copied = (
        *COLUMNS,
        LakeColumn("price", "numeric", LakeType.TEXT, nullable=True, by_text=True),
        LakeColumn("volume", "integer", LakeType.INT32, nullable=True),
    )
    now = {column.name: column.pg_type for column in copied}
    assert not Alterations.between(copied, now)
    del now["volume"]
    found = Alterations.between(copied, {**now, "price": "bytea", "venue": "money"})
    assert found == Alterations(("volume",), ("venue",), (("price", "numeric", "bytea"),))
    for told in (
        "no longer has volume",
        "venue is new",
        "price was numeric, and is now bytea",
        "nothing was changed",
    ):
        assert told in str(found)


def test_the_first_generation_has_the_rows_that_came_back() -> None:
    first, second = gone(), gone(2)
    both = together([ROWS, ROWS])
    until: datetime = NOW + DAY
    told = {"found": both, "until": until, "chunk": "_internal.back", "who": "ada"}
    one = moved(operator_transitions.restore(first, NOW, beside=[second], **told))  # type: ignore[arg-type]
    two = moved(operator_transitions.restore(second, NOW, beside=[first], **told))  # type: ignore[arg-type]
    assert (one.source, one.chunk, two.source) == (Source.CHUNK, "_internal.back", Source.LATE)
    assert two.chunk != one.chunk
    alone = operator_transitions.restore(first, NOW, **told)  # type: ignore[arg-type]
    assert getattr(alone, "code", None) == "CHANGED"
