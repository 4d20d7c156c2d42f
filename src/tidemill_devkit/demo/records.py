"""A record of the plan: what is published, and its expected outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from tidemill.domain.messages import CommandBase, Outcome
from tidemill.transport.avro import wire

Damage = Callable[[bytes], bytes | None]
"""A broken producer's change of a record's value."""


class ExpectedOutcome(NamedTuple):
    """The outcome of a record. `code`: of a rejected or parked one, or of the first that a duplicate repeats."""

    outcome: Outcome
    code: str | None = None


APPLIED = ExpectedOutcome(Outcome.APPLIED)
DUPLICATE = ExpectedOutcome(Outcome.DUPLICATE)


@dataclass(frozen=True)
class Planned:
    """A record to publish.

    `command` is encoded unchanged, also if it breaks the rules. `sent_to` is the aggregate whose command topic gets
    it. `key` and `partitions_off` make it a wrongly addressed one, `damage` an unreadable one.
    """

    sent_to: str
    command: CommandBase
    expected_outcome: ExpectedOutcome
    events: int = 0
    key: str | None = None
    partitions_off: int = 0
    damage: Damage | None = None

    def again(self) -> Planned:
        """Return the record of a producer that sends the same command again."""
        first = None if self.expected_outcome.outcome is Outcome.APPLIED else self.expected_outcome.code
        return replace(self, expected_outcome=ExpectedOutcome(Outcome.DUPLICATE, first), events=0)


def applied(sent_to: str, command: CommandBase) -> Planned:
    """Return a record that is applied and causes one event."""
    return Planned(sent_to, command, APPLIED, events=1)


def rejected(sent_to: str, command: CommandBase, code: str) -> Planned:
    """Return a record that is refused."""
    return Planned(sent_to, command, ExpectedOutcome(Outcome.REJECTED, code))


def parked(sent_to: str, command: CommandBase, code: str, damage: Damage | None = None) -> Planned:
    """Return a record that cannot be read."""
    return Planned(sent_to, command, ExpectedOutcome(Outcome.PARKED, code), damage=damage)


def cut_short(value: bytes) -> bytes:
    """Lose the last three bytes."""
    return value[:-3]


def with_a_tail(value: bytes) -> bytes:
    """Leave two bytes of an earlier, longer record in the buffer."""
    return value + b"\x01\x00"


def as_json(value: bytes) -> bytes:
    """Send text where Avro is expected."""
    del value
    return b'{"symbol": "AAPL", "price": 451.25}'


def as_nothing(value: bytes) -> None:
    """Send a record without a value."""
    del value


def of_another_schema(value: bytes) -> bytes:
    """Name an unregistered schema, in either framing."""
    if value.startswith(wire.ID_MAGIC):
        return wire.prefix_of_id(wire.LARGEST_ID) + value[wire.ID_BYTES :]
    return wire.prefix_of_fingerprint(b"\xde\xad\xbe\xef\xde\xad\xbe\xef") + value[wire.FINGERPRINT_BYTES :]
