"""Every code that an outcome can carry, in one place, with what the client should do about it.

The README's table is checked against this one by a test. Contexts add codes of their own with `rejected(code, ...)`;
those are declared in `Context.codes` so that they are listed too.
"""

from __future__ import annotations

from typing import Final

REJECTED: Final[dict[str, str]] = {
    "INVALID": "a field breaks the command's rules: correct it and send a new command",
    "WRONG_KEY": "the record's key is not the command's key: set the one that is named, send a new command",
    "WRONG_PARTITION": "the producer partitions differently: set partitioner=murmur2_random, send a new command",
    "ID_REUSE": "this command_id was used for another command: give every command an id of its own",
    "STALE": "this UUIDv7 command_id is older than the duplicate horizon: send a new command",
    "RANGE_CLOSED": "its span of the table is archived and the table refuses late rows: nothing to correct",
    "TOO_LARGE": "the event would exceed its topic's limit: send less in one command",
}

PARKED: Final[dict[str, str]] = {
    "MALFORMED": "the body is not the Avro that its schema says: mend the producer, send the command again",
    "UNKNOWN_SCHEMA": "no command of this topic has that schema: register it, or mend the producer",
    "NEWER_SCHEMA": "only a newer version takes all of it, and none came in time: upgrade, send the command again",
    "TOO_BIG": "the record, its key or its headers are larger than what is read: mend the producer",
    "CRASHED": "the code that worked on it raised, or its process ended: keep the bytes, report a bug",
}

HALTED: Final[dict[str, str]] = {
    "TOPIC_CHANGED": "the last record consumed is not in the command topic any more: it was re-created or truncated",
    "OFFSET_LOST": "the next offset was deleted by retention: records were lost before they were read",
    "OFFSET_AHEAD": "the next offset lies beyond the end of the command topic: it was re-created or truncated",
    "HISTORY_FORKED": "the event topic's tail is not what the log says: the database was restored or edited",
    "HISTORY_BEHIND": "the event topic is ahead of the log: the database was restored to an earlier time",
    "TOPIC_BEHIND": "the event topic lacks events that were acknowledged: it was re-created or truncated",
    "UNFETCHABLE": "a Kafka batch cannot be unpacked: records behind it are out of reach",
    "OUTBOX_GAP": "the outbox misses a number: rows were deleted by hand",
    "PARTITIONS_CHANGED": "the topic's partition count is not the one the lanes were created with",
    "FOREIGN_TAIL": "an outbound topic ends with a record that the relay did not write: somebody else writes there",
    "EVENT_REFUSED": "Kafka refuses an event for good: its topic's size limit is below what the batch checked",
    "PARKING_REFUSED": "the database refuses a record even as it came: nothing of it could be kept",
}

_RESUME = "tidemill lanes resume LANE"
_SKIP = f"{_RESUME} --skip-to OFFSET --reason TEXT"
_RECONCILE = "tidemill lanes reconcile LANE --reason TEXT"

CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "TOPIC_CHANGED": (
        f"bring the topic back: {_RESUME}",
        f"read the new one, from offset 0 as a rule: {_SKIP}",
    ),
    "OFFSET_LOST": (f"read on at the first offset there is, and have the senders send again: {_SKIP}",),
    "OFFSET_AHEAD": (
        f"bring the topic back: {_RESUME}",
        f"read the new one, from offset 0 as a rule: {_SKIP}",
    ),
    "HISTORY_FORKED": (f"keep both, what the topic has alone is withdrawn: {_RECONCILE}",),
    "HISTORY_BEHIND": (
        f"restore a database that knows the topic's events: {_RESUME}",
        f"go on behind the topic, and take the commands since then in again: {_RECONCILE}",
    ),
    "TOPIC_BEHIND": (
        f"bring the events back from a mirror: {_RESUME}",
        f"send what the outbox still has, and go on: {_RECONCILE}",
    ),
    "UNFETCHABLE": (f"read on behind the batch: {_SKIP}",),
    "OUTBOX_GAP": (f"put the rows back from a backup: {_RESUME}",),
    "PARTITIONS_CHANGED": (
        f"make the topic again with the count it had, and read it from its start: {_RESUME} --skip-to 0 --reason TEXT",
    ),
    "FOREIGN_TAIL": (
        f"take the right to write away, and go on behind the record: {_RESUME} --accept-foreign --reason TEXT",
    ),
    "EVENT_REFUSED": (f"raise the topic's max.message.bytes: {_RESUME}",),
    "PARKING_REFUSED": (
        f"mend what the evidence names: {_RESUME}",
        f"leave the record out, once it is kept elsewhere: {_SKIP}",
    ),
}
"""What can be done about each halt: what works, with LANE for the lane's name. The CLI and the runbook say it."""
