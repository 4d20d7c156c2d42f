"""The ports of submissions, in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.domain.collection import Collection as DocumentCollection
from tidemill.domain.errors import Unavailable, UsageError
from tidemill.domain.messages import BASE_FIELDS, CommandBase
from tidemill.submissions.ports import CommandRecord, Intent, LoggedOutcome, Payload, ReplyAddress


class MemoryPayloads:
    """Payloads of JSON. `away`: the registry does not answer."""

    def __init__(self) -> None:
        self.away = False

    async def encode(self, aggregate: str, command: CommandBase) -> Payload:
        if self.away:
            raise Unavailable("registry", "it is stopped")
        facts = f"{type(command).__name__} {command.model_dump_json(exclude=set(BASE_FIELDS))}"
        return Payload(command.model_dump_json().encode(), zlib.crc32(facts.encode()))


@dataclass
class MemorySender:
    """Topics in memory. `away`: no record is acknowledged; `arrives`: and whether it arrives all the same.

    `arrived`: is called with each record that arrives and its offset. `max_bytes`: of a value.
    """

    away: bool = False
    arrives: bool = False
    max_bytes: int = 1 << 20
    arrived: Callable[[CommandRecord, int], None] = lambda _record, _offset: None
    records: dict[tuple[str, int], list[CommandRecord]] = field(default_factory=dict)

    async def send(self, record: CommandRecord) -> int:
        if len(record.value) > self.max_bytes:
            raise UsageError("a record is larger than its topic allows")
        if self.away and not self.arrives:
            raise Unavailable("kafka", "it is stopped")
        log = self.records.setdefault((record.topic, record.partition), [])
        log.append(record)
        self.arrived(record, len(log) - 1)
        if self.away:
            raise Unavailable("kafka", "the answer was lost")
        return len(log) - 1


class MemoryInbox:
    """An inbox that receives what a test gives it. `address`: None while it cannot receive."""

    def __init__(self) -> None:
        self.address: ReplyAddress | None = ReplyAddress("replies", 0)
        self._receive: Callable[[bytes, Mapping[str, Any]], None] = lambda _correlation, _fields: None

    def listen(self, receive: Callable[[bytes, Mapping[str, Any]], None]) -> None:
        self._receive = receive

    def give(self, correlation: bytes, fields: Mapping[str, Any]) -> None:
        """Receive a reply."""
        if self.address is not None:
            self._receive(correlation, fields)


class MemoryOutcomes:
    """A log in memory. `away`: the database does not answer; `questions`: the ids of each query."""

    def __init__(self) -> None:
        self.away = False
        self.logged: dict[str, LoggedOutcome] = {}
        self.halts: set[tuple[str, int]] = set()
        self.questions: list[list[str]] = []
        self.halt_questions = 0

    async def outcomes(self, identities: Collection[str]) -> dict[str, LoggedOutcome]:
        self.questions.append(list(identities))
        self._demand()
        return {identity: self.logged[identity] for identity in identities if identity in self.logged}

    async def halted(self) -> frozenset[tuple[str, int]]:
        self.halt_questions += 1
        self._demand()
        return frozenset(self.halts)

    def _demand(self) -> None:
        if self.away:
            raise Unavailable("database", "it is stopped")


class MemoryDocuments:
    """Documents by collection and key. `away`: the database does not answer."""

    def __init__(self) -> None:
        self.away = False
        self.rows: dict[tuple[str, str], Mapping[str, Any]] = {}

    async def values(
        self, collection: DocumentCollection, key: str, names: Sequence[str]
    ) -> Mapping[str, Any] | None:
        if self.away:
            raise Unavailable("database", "it is stopped")
        row = self.rows.get((collection.name, key))
        return None if row is None else {name: row[name] for name in names}


class MemoryIntents:
    """A journal in memory. `away`: it cannot be written; `closing_fails`: only outcomes cannot."""

    def __init__(self) -> None:
        self.away = False
        self.closing_fails = False
        self.entries: list[Intent] = []
        self.closed: dict[int, tuple[str, str | None]] = {}

    async def intents(self, entries: Sequence[Intent]) -> list[int]:
        if self.away:
            raise Unavailable("database", "it is stopped")
        self.entries += entries
        return list(range(len(self.entries) - len(entries), len(self.entries)))

    async def outcome(self, reference: object, result: str, *, code: str | None = None) -> None:
        if self.closing_fails:
            raise Unavailable("database", "it is stopped")
        assert isinstance(reference, int)
        self.closed[reference] = (result, code)

    async def is_intended(self, identity: str, principal: str | None) -> bool:
        return any(
            entry.identity == identity and principal in (None, entry.principal) for entry in self.entries
        )
