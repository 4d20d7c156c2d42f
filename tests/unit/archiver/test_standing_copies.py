"""An archiver that wakes late, with rows that have changed meanwhile: what stands stays."""

import pytest

from tests.fakes.archiver import MemoryLake, MemoryReader, Rows, measure
from tests.support.archive.archival import START, chunk, request
from tidemill.archiver.copier import Copier
from tidemill.archiver.copy_plan import plan
from tidemill.archiver.read_pace import Pace
from tidemill.domain.archive.slices import SliceId

ROWS = ((START, 1),)


class BlindLake(MemoryLake):
    """The copy was not there yet when it was looked for."""

    def find(self, slice_: SliceId, event_id: str) -> None:
        return None


@pytest.mark.parametrize(("read", "code"), [(((START, 9),), "DIGEST_DIFFERS"), (ROWS, None)])
def test_what_was_read_late_replaces_nothing(read: tuple[tuple[object, ...], ...], code: str | None) -> None:
    lake, reader = BlindLake(), MemoryReader()
    measured = measure(ROWS)
    asked = plan(request(chunk(1, row_count=1, digest=measured.digest)))
    (task,) = asked.tasks
    first = lake.write(task.slice, asked.event.event_id, asked.columns, asked.time_column, [Rows(ROWS)])
    reader.answers[task.read_sql] = [Rows(read)]
    (done,) = Copier(reader, lake).carry_out(asked, Pace(None)).chunks
    assert (done.failure and done.failure.code) == code
    assert list(lake.copies.values()) == [first]
