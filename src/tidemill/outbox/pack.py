"""A pack: what the relay sends of one batch and lane, in one row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple


class Pack(NamedTuple):
    """What the relay sends of one batch and lane, encoded when it was written; columns of `tm.pack`, in their order.

    `events`, `outcomes`: records numbered from 0 as they stand in a Kafka batch, compressed with zstd; None
    if there are no events. `first_position`..`position`: the commands whose outcomes are in force. `sequence_before`,
    `sequence`: the last event before the first of them, and their last. `moved_positions`, `moved_sequences`: by how
    much a reconciliation has raised the numbers since. The others are of all records as they were encoded, also where a
    reconciliation has split them into two packs: `timeline`, the running hash before and behind them, `event_id`, the
    last event's, None without one, `parked`, the positions whose dead letters are to be sent, and `parked_sequences`,
    the last event up to each. `offsets`: of the records in the command topic; None: dense from `first_offset`.
    `rows`: how many rows its applied commands affected. `unpacked_bytes`: of all records, before compression.
    """

    first_position: int
    position: int
    sequence_before: int
    sequence: int
    moved_positions: int
    moved_sequences: int
    timeline: int
    chain_before: int
    chain: int
    event_id: str | None
    at: datetime
    seconds: float
    first_offset: int
    offsets: list[int] | None
    rows: int
    parked: list[int] | None
    parked_sequences: list[int] | None
    unpacked_bytes: int
    events: bytes | None
    outcomes: bytes


class PackStart(NamedTuple):
    """Where packs begin: the last event before them and the running hash; what is written in each record.

    `withdrawn`: (first, last) of every span of events that are not in force any more.
    """

    sequence: int
    chain: int
    timeline: int
    withdrawn: Sequence[tuple[int, int]] = ()
