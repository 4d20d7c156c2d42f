"""Dead letters that are too large for their topic: a shortened one is sent, the record stays in `tm.parked`.

An unreadable record is not a reason to halt a lane, and it may be larger than what Tidemill writes: a command that
was compressed counts unpacked here, and gets further headers. So first the value is left out, then the key and
headers of the record, which these headers report:

    tm_value         omitted
    tm_value_bytes   how large it was
    tm_headers       omitted, where the record's own key and headers are left out too
    tm_kept          the command that shows the record unchanged
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tidemill.outbox.ports import EncodedRecord, Header, ParkedRecord

Make = Callable[[bytes | None, bytes | None, Sequence[Header]], EncodedRecord]

_BARE: Final = ("tm_headers", b"omitted")


def size_of(record: EncodedRecord) -> int:
    """Return how many bytes key, value and headers have, without Kafka's few bytes around them."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def truncated_to(
    letter: EncodedRecord, record: ParkedRecord, lane: str, max_bytes: int, make: Make
) -> EncodedRecord:
    """Return the dead letter of `record`, leaving out no more than `max_bytes` requires.

    The shortest form is returned even if it is larger. `lane`: its name. `make`: `LaneRecords.record`.
    """
    if record.whole and size_of(letter) <= max_bytes:
        return letter
    ours = letter.headers[len(record.headers) :]
    note = [
        ("tm_value", b"omitted"),
        ("tm_value_bytes", b"%d" % (record.value_bytes or len(record.value or b""))),
        ("tm_kept", f"tidemill dead-letters show {lane} {record.position}".encode()),
    ]
    without_value = make(record.key, None, [*record.headers, *note, *ours])
    if not record.bare and size_of(without_value) <= max_bytes:
        return without_value
    return make(None, None, [_BARE, *note, *ours])
