"""The ports of submissions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from tidemill.domain.collection import Collection as DocumentCollection
from tidemill.domain.messages import CommandBase, Outcome


class Payload(NamedTuple):
    """The framed value of a command, and the digest by which the log tells whether a repeat has the same content."""

    value: bytes
    digest: int


class PayloadEncoder(Protocol):
    """Writes commands as their topics carry them."""

    async def encode(self, aggregate: str, command: CommandBase) -> Payload:
        """Return the payload of a command. Raises `Unavailable`: the registry is."""
        ...


class CommandRecord(NamedTuple):
    """A record for a command topic."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class CommandSender(Protocol):
    """Sends records, many at once, each acknowledged by all in-sync replicas."""

    async def send(self, record: CommandRecord) -> int:
        """Return the offset of a record once it is acknowledged.

        Raises:
            Unavailable: it was not acknowledged within a deadline; it may have arrived, or still arrive.
            UsageError: it is larger than its topic takes.
        """
        ...


class ReplyAddress(NamedTuple):
    """Where replies of this process go."""

    topic: str
    partition: int


class ReplyInbox(Protocol):
    """Receives replies, as far as they come."""

    @property
    def address(self) -> ReplyAddress | None:
        """Return where replies go, None while none can be received."""
        ...

    def listen(self, receive: Callable[[bytes, Mapping[str, Any]], None]) -> None:
        """Have `receive(correlation, fields of the outcome)` called for each reply, of other processes, too."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedOutcome:
    """What the log holds of a command. `record_offset`: of its record, None once the outbox no longer has it.

    `at`: of its batch. `seconds`: that its batch took, 0 once the outbox no longer has it.
    """

    digest: int
    outcome: Outcome
    code: str | None
    detail: str | None
    aggregate: str
    partition: int
    position: int
    sequence: int
    rows: int
    at: datetime
    type: str | None
    service: str | None
    record_offset: int | None = None
    seconds: float = 0.0


class OutcomeLog(Protocol):
    """The log of the database, which decides. Every call may raise `TransientError`."""

    async def outcomes(self, identities: Collection[str]) -> dict[str, LoggedOutcome]:
        """Return identity -> outcome, of those commands that were consumed, by one query."""
        ...

    async def halted(self) -> frozenset[tuple[str, int]]:
        """Return (aggregate, partition) of the lanes that wait for an operator."""
        ...


class DocumentReader(Protocol):
    """Single documents of state collections. Every call may raise `TransientError`."""

    async def values(
        self, collection: DocumentCollection, key: str, names: Sequence[str]
    ) -> Mapping[str, Any] | None:
        """Return these columns of the document in force with a key, None if there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A write that is about to be sent. `command`: its full name. `collection`, `key`: of its document, if any.

    `fields`: the names of those that were sent. `payload`: the value of the record, of which only a digest is kept.
    """

    principal: str
    principal_kind: str
    verb: str
    command: str
    command_id: str
    identity: str
    aggregate: str
    partition: int
    collection: str | None = None
    key: str | None = None
    address: str | None = None
    fields: tuple[str, ...] = ()
    payload: bytes = b""


class IntentJournal(Protocol):
    """Who wrote what by HTTP. An entry is durable before its command is produced."""

    async def intents(self, entries: Sequence[Intent]) -> Sequence[object]:
        """Store entries, all or none, and return a reference to each.

        Raises `TransientError`, or `RequestRefused` with `JOURNAL_AWAY`: then nothing may be produced.
        """
        ...

    async def outcome(self, reference: object, result: str, *, code: str | None = None) -> None:
        """Close an entry with what became of its command. Raises `TransientError`: then the entry stays open."""
        ...


class IntentReader(Protocol):
    """Which commands were sent, whether or not they have arrived."""

    async def is_intended(self, identity: str, principal: str | None) -> bool:
        """Tell whether a command was journalled, by this principal unless that is None. Raises `TransientError`."""
        ...
