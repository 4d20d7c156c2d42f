"""A record for Kafka: `outbox.ports.EncodedRecord`."""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.transport.wire.record_format import Header, decode_record, encode_record

_new = object.__new__


class OutboundRecord:
    """A record for Kafka; its fields can be read, it is kept as `encoded`."""

    __slots__ = ("encoded",)

    encoded: bytes

    def __init__(
        self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> None:
        """Encode it."""
        self.encoded = encode_record(key, value, headers)

    @staticmethod
    def of(encoded: bytes) -> OutboundRecord:
        """Return the record that somebody has encoded."""
        record = _new(OutboundRecord)
        record.encoded = encoded
        return record

    @property
    def key(self) -> bytes | None:
        """Return its key."""
        return decode_record(self.encoded)[0]

    @property
    def value(self) -> bytes | None:
        """Return its value."""
        return decode_record(self.encoded)[1]

    @property
    def headers(self) -> list[Header]:
        """Return its headers in their order."""
        return decode_record(self.encoded)[2]

    def __eq__(self, other: object) -> bool:
        """Return whether `other` is the same record, byte for byte."""
        return isinstance(other, OutboundRecord) and self.encoded == other.encoded

    def __hash__(self) -> int:
        """Return a hash for `__eq__`."""
        return hash(self.encoded)

    def __repr__(self) -> str:
        """Return what it holds."""
        return f"OutboundRecord{decode_record(self.encoded)}"
