"""Every code of an outcome or a halt, each defined once, with its advice.

The documents' tables are checked against these by a test. Contexts add codes of their own with `rejected(code, ...)`;
those are declared in `Context.codes` so that they are listed too.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self


class Code(StrEnum):
    """A code, which is its own text, and its advice."""

    advice: str

    def __new__(cls, text: str, advice: str) -> Self:
        """Keep the advice beside the code."""
        member = str.__new__(cls, text)
        member._value_ = text
        member.advice = advice
        return member


class RejectionCode(Code):
    """Why a command was rejected, and what its sender should do."""

    INVALID = "INVALID", "a field breaks the command's rules: correct it and send a new command"
    WRONG_KEY = (
        "WRONG_KEY",
        "the record's key is not the command's key: set the one that is named, send a new command",
    )
    WRONG_PARTITION = (
        "WRONG_PARTITION",
        "the producer partitions differently: set partitioner=murmur2_random, send a new command",
    )
    ID_REUSE = "ID_REUSE", "this command_id was used for another command: give every command an id of its own"
    STALE = "STALE", "this UUIDv7 command_id is older than the duplicate horizon: send a new command"
    RANGE_CLOSED = (
        "RANGE_CLOSED",
        "its span of the table is archived and the table refuses late rows: nothing to correct",
    )
    TOO_LARGE = "TOO_LARGE", "the event would exceed its topic's limit: send less in one command"
    STILL_REFERRED_TO = (
        "STILL_REFERRED_TO",
        "rows of another aggregate refer to this one: delete those first, then send a new command",
    )


class ParkingCode(Code):
    """Why a record was parked."""

    MALFORMED = (
        "MALFORMED",
        "the body is not the Avro that its schema says: fix the producer, send the command again",
    )
    UNKNOWN_SCHEMA = (
        "UNKNOWN_SCHEMA",
        "no command of this topic has that schema: register it, or fix the producer",
    )
    NEWER_SCHEMA = (
        "NEWER_SCHEMA",
        "only a newer version takes all of it, and none came in time: upgrade, send the command again",
    )
    TOO_BIG = "TOO_BIG", "the record, its key or its headers are larger than what is read: fix the producer"
    CRASHED = (
        "CRASHED",
        "the code that worked on it raised, or its process ended: keep the bytes, report a bug",
    )


class HaltCode(Code):
    """Why a lane waits for an operator."""

    TOPIC_CHANGED = (
        "TOPIC_CHANGED",
        "the last record consumed is no longer in the command topic: it was re-created or truncated",
    )
    OFFSET_LOST = (
        "OFFSET_LOST",
        "the next offset was deleted by retention: records were lost before they were read",
    )
    OFFSET_AHEAD = (
        "OFFSET_AHEAD",
        "the next offset is beyond the end of the command topic: it was re-created or truncated",
    )
    HISTORY_FORKED = (
        "HISTORY_FORKED",
        "the event topic's tail is not what the log says: the database was restored or edited",
    )
    HISTORY_BEHIND = (
        "HISTORY_BEHIND",
        "the event topic is ahead of the log: the database was restored to an earlier time",
    )
    TOPIC_BEHIND = (
        "TOPIC_BEHIND",
        "the event topic lacks events that were acknowledged: it was re-created or truncated",
    )
    UNFETCHABLE = "UNFETCHABLE", "a Kafka batch cannot be unpacked: records after it cannot be read"
    OUTBOX_GAP = "OUTBOX_GAP", "a number is missing in the outbox: rows were deleted by hand"
    PARTITIONS_CHANGED = (
        "PARTITIONS_CHANGED",
        "the topic's partition count is not the one the lanes were created with",
    )
    FOREIGN_TAIL = (
        "FOREIGN_TAIL",
        "an outbound topic ends with a record that the relay did not write: another program writes there",
    )
    EVENT_REFUSED = (
        "EVENT_REFUSED",
        "Kafka refuses an event permanently: its topic's size limit is below what the batch checked",
    )
    PARKING_REFUSED = (
        "PARKING_REFUSED",
        "the database refuses a record even unchanged: nothing of it could be stored",
    )


REJECTED: Final[dict[str, str]] = {code: code.advice for code in RejectionCode}
PARKED: Final[dict[str, str]] = {code: code.advice for code in ParkingCode}
HALTED: Final[dict[str, str]] = {code: code.advice for code in HaltCode}

_RESUME = "tidemill lanes resume LANE"
_SKIP = f"{_RESUME} --skip-to OFFSET --reason TEXT"
_RECONCILE = "tidemill lanes reconcile LANE --reason TEXT"

CHOICES: Final[dict[str, tuple[str, ...]]] = {
    HaltCode.TOPIC_CHANGED: (
        f"restore the topic: {_RESUME}",
        f"read the new one, usually from offset 0: {_SKIP}",
    ),
    HaltCode.OFFSET_LOST: (
        f"continue at the first existing offset, and have the senders send again: {_SKIP}",
    ),
    HaltCode.OFFSET_AHEAD: (
        f"restore the topic: {_RESUME}",
        f"read the new one, usually from offset 0: {_SKIP}",
    ),
    HaltCode.HISTORY_FORKED: (f"keep both, and withdraw what only the topic has: {_RECONCILE}",),
    HaltCode.HISTORY_BEHIND: (
        f"restore a database that knows the topic's events: {_RESUME}",
        f"continue after the topic's end, and consume the commands since then again: {_RECONCILE}",
    ),
    HaltCode.TOPIC_BEHIND: (
        f"restore the events from a mirror: {_RESUME}",
        f"send what the outbox still has, and continue: {_RECONCILE}",
    ),
    HaltCode.UNFETCHABLE: (f"continue after the batch: {_SKIP}",),
    HaltCode.OUTBOX_GAP: (f"restore the rows from a backup: {_RESUME}",),
    HaltCode.PARTITIONS_CHANGED: (
        f"create the topic again with its old count, and read it from its start: {_RESUME} --skip-to 0 --reason TEXT",
    ),
    HaltCode.FOREIGN_TAIL: (
        f"revoke the right to write there, and continue after the record: {_RESUME} --accept-foreign --reason TEXT",
    ),
    HaltCode.EVENT_REFUSED: (f"raise the topic's max.message.bytes: {_RESUME}",),
    HaltCode.PARKING_REFUSED: (
        f"fix what the evidence names: {_RESUME}",
        f"skip the record, once it is stored elsewhere: {_SKIP}",
    ),
}
"""The possible decisions about each halt, with LANE for the lane's name. The CLI and the runbook print them."""
