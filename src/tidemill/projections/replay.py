"""Replay: a stream's events, from the first one on, folded into rows that are built beside the live ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final, Self

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import TidemillError, TransientError
from tidemill.domain.lane import lane_name
from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream
from tidemill.projections import halts
from tidemill.projections.batch_fold import read_by_columns
from tidemill.projections.history import PLAIN, LaneHistory
from tidemill.projections.ports import (
    Checkpoint,
    CheckpointMoved,
    EventCodec,
    EventSource,
    EventSourceFault,
    RebuildTargets,
    Standing,
    View,
    ViewStore,
)
from tidemill.projections.read_ahead import ReadAhead
from tidemill.projections.retry import projector_retrier
from tidemill.projections.row_writer import ViewWriter

STALL_S: Final = 30.0
"""How long a wanted event may fail to arrive."""

SERVERS_AWAY_S: Final = 120.0
"""How long a server may be unavailable before a replay is given up."""

OnProgress = Callable[[int, int], None]
"""Called with the number of events folded so far, and of all that are wanted."""


class ReplayFailed(TidemillError):
    """The events of a projection cannot all be read again."""

    kind = ErrorCode.REPLAY_FAILED

    def __init__(self, projection: Projection, detail: str) -> None:
        """The live rows are unchanged."""
        super().__init__(
            f"the events of {projection.name} cannot be replayed: {detail}; its rows are unchanged",
            projection=projection.name,
            detail=detail,
        )


def _gone(lane: str, before: int, last: int) -> str:
    return (
        f"lane {lane}: events {before + 1} to {last} are permanently missing in the topic, as found when the lane "
        "was reconciled; restore the topic from a mirror, or keep the live rows, which are correct"
    )


@dataclass(frozen=True, slots=True)
class ReplayParts:
    """The parts of a replay. `source` makes a new one for every replay."""

    source: Callable[[], EventSource]
    codec: EventCodec
    store: ViewStore
    rebuild_targets: RebuildTargets
    stall_s: float = STALL_S


class Replay:
    """Folds events into one read model, from sequence 1 up to given targets.

    `until`: partition -> the last sequence that may be folded; without it, whatever is read is folded.
    """

    def __init__(
        self, stream: Stream, view: View, parts: ReplayParts, until: Mapping[int, int] | None = None
    ) -> None:
        """Read nothing yet."""
        empty = {partition: Checkpoint(0, 0) for partition in range(stream.partitions)}
        self._projection = view.projection
        self._stream = stream
        self._store = parts.store
        self._histories: Mapping[int, LaneHistory] = {}
        self._source = parts.source()
        self._writer = ViewWriter(parts.store, Standing(view, empty, {}), stream.aggregate, until)
        self._retrier = projector_retrier(limit_s=SERVERS_AWAY_S)
        self._reader = ReadAhead(
            self._source,
            parts.codec,
            self._retrier,
            max_bytes=2 * stream.batch_bytes,
            by_columns=read_by_columns([view.projection]),
        )
        self._stall_s = parts.stall_s
        self._moved_at = 0.0

    async def up_to(self, targets: Mapping[int, int], on_progress: OnProgress) -> None:
        """Fold until every partition is at its target sequence or beyond.

        Raises:
            ReplayFailed: an event that is wanted is missing, gone or unreadable.
            FoldFailed, DataError: the projection cannot fold an event.
        """
        self._histories = await self._retrier.call(self._ask_histories)
        total = sum(targets.values())
        self._moved_at = monotonic()
        while missing := self.missing(targets):
            on_progress(total - sum(missing.values()), total)
            await self._turn(missing)
        on_progress(total, total)

    def missing(self, targets: Mapping[int, int]) -> dict[int, int]:
        """Return partition -> how many numbers are missing, without those at their target."""
        behind = {
            partition: self._histories.get(partition, PLAIN).until(target)
            - self._writer.cursors[partition].checkpoint.sequence
            for partition, target in targets.items()
        }
        return {partition: count for partition, count in behind.items() if count > 0}

    def demand_none_beyond(self, targets: Mapping[int, int]) -> None:
        """Raise `ReplayFailed` if an event after its lane's target was folded, as a lane without a history allows."""
        for partition, target in targets.items():
            folded = self._writer.cursors[partition].checkpoint.sequence
            if folded > target:
                raise self._failed(
                    f"lane {self._lane(partition)} ends with event {target} in the database, and its topic has event "
                    f"{folded}; start `tidemill serve commands`, which compares the two, and see `tidemill lanes show`"
                )

    async def __aenter__(self) -> Self:
        """Start at the beginning of every partition.

        Not tried again: an operator waits, and nothing that was done would be lost. Later outages are waited for.

        Raises:
            Unavailable: Kafka is.
        """
        try:
            await self._start()
        except BaseException:
            await self._source.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End reading."""
        await self._reader.stop()
        await self._source.close()

    async def _start(self) -> None:
        try:
            await self._source.start({})
        except TransientError:
            await self._source.close()
            raise
        self._reader.start()

    async def _turn(self, missing: Mapping[int, int]) -> None:
        try:
            async with asyncio.timeout_at(self._deadline()):
                batch = await self._reader.take()
        except TimeoutError:
            raise self._failed(f"no more events for {self._stall_s:g} s; {self._standing(missing)}") from None
        except EventSourceFault as fault:
            if fault.partition in missing:
                raise self._failed(self._why(fault)) from fault
            await self._reader.stop()  # nothing was read ahead: a fault is raised after everything before it
            self._reader.start()
            return
        try:
            self._histories = await self._retrier.call(self._ask_histories)
            applied = await self._retrier.call(lambda: self._writer.apply(batch, self._histories))
        except CheckpointMoved as moved:
            raise self._failed("another process has begun to build its rows") from moved
        if applied.folded:
            self._moved_at = monotonic()
        self._check(missing)

    def _why(self, fault: EventSourceFault) -> str:
        expected = self._writer.cursors[fault.partition].expected
        lost = self._histories.get(fault.partition, PLAIN).lost_at(expected)
        return str(fault) if lost is None else _gone(self._lane(fault.partition), *lost)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + max(0.0, self._moved_at + self._stall_s - monotonic())

    async def _ask_histories(self) -> Mapping[int, LaneHistory]:
        return await self._store.histories(self._stream.aggregate, range(self._stream.partitions))

    def _check(self, missing: Mapping[int, int]) -> None:
        for partition in missing:
            halt = self._writer.cursors[partition].halt
            if halt is None:
                continue
            lost = self._histories.get(partition, PLAIN).lost_at(halt.expected)
            if lost is not None:
                raise self._failed(_gone(self._lane(partition), *lost))
            if halt.code not in (halts.GAP, halts.AHEAD):
                raise self._failed(f"lane {self._lane(partition)}: {halt.detail}")

    def _standing(self, missing: Mapping[int, int]) -> str:
        cursors = self._writer.cursors
        lanes = [
            f"lane {self._lane(at)} lacks {count} after event {cursors[at].checkpoint.sequence}"
            for at, count in list(missing.items())[:3]
        ]
        return "; ".join(lanes) + (f"; and {len(missing) - 3} more lanes" if len(missing) > 3 else "")

    def _lane(self, partition: int) -> str:
        return lane_name(self._stream.aggregate, partition)

    def _failed(self, detail: str) -> ReplayFailed:
        return ReplayFailed(self._projection, detail)
