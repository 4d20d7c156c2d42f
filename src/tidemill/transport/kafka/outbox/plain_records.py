"""The records of plain commands, many at a call: applied with one event, and nothing more to say of them.

Nearly every command is plain, and those of a batch differ in key, id, payload and numbers only. All else is encoded
once for a run of them, which takes a third of the time of `RecordBuilder`. What both make is the same, byte for byte
(tests/unit/transport/kafka/outbox/test_packs.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tidemill.domain.messages import Outcome
from tidemill.outbox.ports import OutboxItem, PlainOutcome
from tidemill.transport.kafka.outbox.records import RecordBuilder
from tidemill.transport.wire.varint import VARINT, encode_varints

_APPLIED: Final = Outcome.APPLIED.letter
_ID_CHARACTERS: Final = 36


def plain_run(items: Sequence[OutboxItem], begin: int) -> int:
    """Return where the run of plain commands ends that begins at `begin`: those of one service, type and time."""
    first, end = items[begin], begin
    service, kind, at, seconds = first.service, first.event_type, first.at, first.seconds
    for item in items[begin:]:
        (_, number, outcome, _, _, _, command_id, named, correlation, _, then, took, _,
         _, event_type, payload, _, trace, client_id, rows) = item  # fmt: skip
        if (
            number
            or outcome != _APPLIED
            or payload is None
            or correlation is not None
            or trace is not None
            or client_id is not None
            or rows is not None
            or named != service
            or event_type != kind
            or then != at
            or took != seconds
            or command_id is None
            or len(command_id) != _ID_CHARACTERS
        ):
            break
        end += 1
    if end < len(items) and items[end].item:
        end -= 1  # the last one has a second event
    return end


def plain_bodies(
    builder: RecordBuilder, pieces: PlainOutcome, items: Sequence[OutboxItem]
) -> tuple[list[bytes], list[bytes]]:
    """Return the records of a run of plain commands, each without its place in a batch: events and outcomes."""
    shared, key_of, join = builder.shared_of(items[0]), builder.key_of, b"".join
    timed, cause, event_id, event_type, outcome_type, event_count, outcome_count, _, _, chains, sequences = (
        shared
    )
    before_id, after_id, instant = pieces[1:]
    numbers = zip(*(encode_varints(column) for column in _numbers(items)), strict=True)
    events, outcomes = list[bytes](), list[bytes]()
    digits, before_place, outcome_id, place_header = 0, b"", b"", b""
    for item, varints in zip(items, numbers, strict=True):
        (position, _, _, _, _, _, command_id, _, _, sequence, _, _, _,
         key, _, payload, chain, _, _, _) = item  # fmt: skip
        assert payload is not None
        assert command_id is not None
        place, last, hashed, name = b"%d" % position, b"%d" % sequence, b"%d" % chain, command_id.encode()
        if len(place) != digits:  # at a power of ten
            digits = len(place)
            before_place = pieces.before_place(digits)
            outcome_id, place_header = shared.outcome_id(digits), shared.position[digits]
        key_field, subject = key_of(key)
        count = 1 if subject else 0
        headers = join((timed, subject, cause, name, place_header, place))
        ended = sequences[len(last)] + last
        value = join((before_place, place, before_id, name, after_id, *varints, instant))
        event = (
            key_field, VARINT[len(payload)], payload, event_count[count], headers, event_id, name, event_type,
            chains[len(hashed)], hashed, ended,
        )  # fmt: skip
        events.append(join(event))
        outcome = (
            key_field, VARINT[len(value)], value, outcome_count[count], headers, outcome_id, place, outcome_type, ended,
        )  # fmt: skip
        outcomes.append(join(outcome))
    return events, outcomes


def _numbers(items: Sequence[OutboxItem]) -> tuple[list[int], list[int], list[int]]:
    """Return the offsets, positions and sequences."""
    return (
        [item.record_offset for item in items],
        [item.position for item in items],
        [item.sequence for item in items],
    )
