"""The log's part of a lane's history, which its topic lacks: its end, and what was withdrawn. Pure.

After a database was restored and reconciled, the topic still holds the events that were published since, and then those
of the commands that were consumed again: the first ones are not in force any more, and are left out. Until an operator
has reconciled it, events beyond the log's end are not folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LaneHistory:
    """`end`: the last event that the log knows; None where there is no limit: the lane was never processed.

    `withdrawn`: (last before, last of) spans of events that are not in force, ascending. `lost`: spans, too, of events
    that are permanently missing in the topic.
    """

    end: int | None = None
    withdrawn: Sequence[tuple[int, int]] = ()
    lost: Sequence[tuple[int, int]] = ()

    def after(self, sequence: int) -> int:
        """Return the number of the next event in force after event `sequence`."""
        following = sequence + 1
        for before, last in self.withdrawn:
            if before < following <= last:
                following = last + 1
        return following

    def until(self, sequence: int) -> int:
        """Return the last event in force up to `sequence`."""
        for before, last in reversed(self.withdrawn):
            if before < sequence <= last:
                sequence = before
        return sequence

    def withdrew(self, sequence: int) -> tuple[int, int] | None:
        """Return the span of withdrawn events that contains `sequence`."""
        return next((span for span in self.withdrawn if span[0] < sequence <= span[1]), None)

    def lost_at(self, sequence: int) -> tuple[int, int] | None:
        """Return the span of lost events that contains `sequence`."""
        return next((span for span in self.lost if span[0] < sequence <= span[1]), None)

    def beyond(self, sequence: int) -> bool:
        """Tell whether the log does not know event `sequence`."""
        return self.end is not None and sequence > self.end

    def is_plain_from(self, sequence: int) -> bool:
        """Tell whether everything after event `sequence` counts, as nearly always."""
        return not self.withdrawn or self.withdrawn[-1][1] <= sequence


PLAIN = LaneHistory()
