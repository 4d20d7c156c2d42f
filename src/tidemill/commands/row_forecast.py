"""How many rows the commands of a batch will have, foreseen by their bytes.

A batch with too many rows is cut in half and decided anew, which is right and dear: each of its commands was decided
in vain. Commands of one class from one sender are alike, so the last batch tells where to cut the next one before.
A wrong forecast costs only that: smaller batches, or a cut after all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from tidemill.commands.decide_fold import AppliedRows
from tidemill.commands.numbering import Disposition
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.messages import CommandBase

_SHARE: Final = 0.9
"""Of the limit, how much is filled: commands of one class are not quite alike."""


class RowForecast:
    """What the commands of one stream have taught."""

    def __init__(self, limit: int) -> None:
        """`limit`: of the rows of a batch."""
        self._room = _SHARE * limit
        self._rows_a_byte: dict[type[CommandBase], float] = {}

    def learn(self, arrivals: Sequence[IncomingCommand], dispositions: Sequence[Disposition]) -> None:
        """Note how many rows those of each class had that had other than one."""
        rows: dict[type[CommandBase], int] = defaultdict(int)
        size: dict[type[CommandBase], int] = defaultdict(int)
        for arrival, disposition in zip(arrivals, dispositions, strict=True):
            if isinstance(disposition, AppliedRows) and arrival.command is not None:
                rows[type(arrival.command)] += disposition.rows
                size[type(arrival.command)] += len(arrival.record.value or b"")
        self._rows_a_byte |= {kind: count / (size[kind] or 1) for kind, count in rows.items()}

    def pieces(self, arrivals: Sequence[IncomingCommand]) -> Iterator[list[IncomingCommand]]:
        """Yield the commands in order, in pieces that should have few enough rows; at least one command in each."""
        if not self._rows_a_byte:
            yield list(arrivals)
            return
        begin, held = 0, 0.0
        for index, arrival in enumerate(arrivals):
            rate = self._rows_a_byte.get(type(arrival.command), 0.0)  # type: ignore[arg-type]  # None has no rate
            rows = rate * len(arrival.record.value or b"")
            if held + rows > self._room and index > begin:
                yield list(arrivals[begin:index])
                begin, held = index, 0.0
            held += rows
        yield list(arrivals[begin:])
