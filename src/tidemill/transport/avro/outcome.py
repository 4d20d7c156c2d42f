"""Outcome messages: the `OutcomeCodec` of the relay, and reading them back.

One is sent for every record that ever arrives, so they are put together by hand from parts that repeat, in half the
time that a general writer takes. `FIELDS` says for which schema; `open` refuses another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from tidemill.catalog.ports import SchemaRegistry
from tidemill.catalog.schemas import Message
from tidemill.clock import Clock
from tidemill.domain.errors import ContractError
from tidemill.domain.lane import Lane, StreamTopics
from tidemill.domain.messages import Outcome
from tidemill.domain.varint import encode_varint
from tidemill.outbox.ports import OutboxItem
from tidemill.transport.avro.encode import encode_string, pack_double
from tidemill.transport.avro.known import KnownSchemas

NAME: Final = "tidemill.outcome.CommandOutcome"

FIELDS: Final = (
    "success",
    "transaction_id",
    "affected_rows",
    "execution_time",
    "error_message",
    "command_id",
    "service_name",
    "correlation_id",
    "outcome",
    "original",
    "code",
    "aggregate",
    "partition",
    "record_offset",
    "position",
    "sequence",
    "recorded_at",
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NULL: Final = b"\x00"
_PRESENT: Final = b"\x02"
_UUID_LENGTH: Final = 36
_UUID_FOLLOWS: Final = _PRESENT + encode_varint(_UUID_LENGTH)
_APPLIED: Final = Outcome.APPLIED.letter
_SYMBOLS: Final = {outcome.letter: encode_varint(index) for index, outcome in enumerate(Outcome)}


class AvroOutcomeCodec:
    """Writes and reads the outcomes of one stream."""

    def __init__(self, outcomes: KnownSchemas, prefix: bytes) -> None:
        """Use `open`, which also asks the registry."""
        self._outcomes = outcomes
        self._prefix = prefix

    @classmethod
    async def open(
        cls,
        topics: StreamTopics,
        messages: Mapping[str, Message],
        *,
        clock: Clock,
        registry: SchemaRegistry | None = None,
    ) -> AvroOutcomeCodec:
        """Return the codec of a stream's outcomes; `messages` are those of the context `outcome`.

        Raises:
            ContractError: the schema is missing, is not the one that is written here, or is not in the registry.
            Unavailable: the registry is away.
        """
        message = messages.get(NAME)
        if message is None or tuple(field.name for field in message.current.record.fields) != FIELDS:
            raise ContractError(f"{NAME} must have the fields {', '.join(FIELDS)}")
        outcomes = KnownSchemas(topics.outcomes, {NAME: message}, clock, registry=registry)
        await outcomes.preload()
        return cls(outcomes, await outcomes.prefix_for_writing(NAME))

    def encode(self, lane: Lane, items: Sequence[OutboxItem]) -> list[bytes]:
        place = f"{lane.aggregate}/{lane.partition}/".encode()
        where = encode_string(lane.aggregate) + encode_varint(lane.partition)
        at, instant, values = None, b"", []
        for item in items:
            if item.at != at:  # one time per batch
                at, instant = item.at, encode_varint((item.at - _EPOCH) // _MICROSECOND)
            values.append(self._encode(place, where, instant, item))
        return values

    def decode(self, value: bytes) -> dict[str, Any]:
        """Return the fields of an outcome message. Raises `Unreadable`."""
        return self._outcomes.decode(value)[1]

    def _encode(self, place: bytes, where: bytes, instant: bytes, item: OutboxItem) -> bytes:
        correlation, detail = item.correlation, item.detail
        shared = _shared(item.outcome, item.original, item.code, item.event_type, item.seconds, item.service)
        return b"".join(
            (
                self._prefix,
                shared.success,
                _text(b"%b%d" % (place, item.position)) if item.outcome == _APPLIED else _NULL,
                shared.cost,
                _NULL if detail is None else _text(detail.encode()),
                _written(item.client_id or item.command_id),
                shared.service,
                _NULL if correlation is None else _text(correlation.encode()),
                shared.fate,
                where,
                encode_varint(item.record_offset),
                encode_varint(item.position),
                encode_varint(item.sequence),
                instant,
            )
        )


class _Shared(NamedTuple):
    """The parts of a message that are the same for most records of a batch."""

    success: bytes
    cost: bytes
    service: bytes
    fate: bytes


@lru_cache(maxsize=1024)
def _shared(
    outcome: bytes | None,
    original: bytes | None,
    code: str | None,
    event_type: str | None,
    seconds: float,
    service: str | None,
) -> _Shared:
    """Raises `KeyError` for an item that carries no outcome."""
    applied = outcome == _APPLIED
    first = None if original is None else Outcome.of_letter(original).value
    affected = b"\x02" if applied and event_type is not None else b"\x00"
    return _Shared(
        success=b"\x01" if applied or original == _APPLIED else b"\x00",
        cost=affected + pack_double(seconds),
        service=_optional(service),
        fate=_SYMBOLS[outcome or b""] + _optional(first) + _optional(code),
    )


def _text(encoded: bytes) -> bytes:
    """Return an optional string that is there."""
    return _PRESENT + encode_varint(len(encoded)) + encoded


def _written(command_id: str | None) -> bytes:
    if command_id is None:
        return _NULL
    encoded = command_id.encode()
    return _UUID_FOLLOWS + encoded if len(encoded) == _UUID_LENGTH else _text(encoded)


def _optional(text: str | None) -> bytes:
    return _NULL if text is None else _text(text.encode())
