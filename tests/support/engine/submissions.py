"""Submissions in memory: the built-in contexts' collections, a clock, and an engine that a test lets work."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from tests.fakes.submissions import (
    MemoryDocuments,
    MemoryInbox,
    MemoryIntents,
    MemoryOutcomes,
    MemoryPayloads,
    MemorySender,
)
from tests.support.engine.codecs import HandClock
from tidemill.contexts.client_configs import context as client_configs
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.data_analyses import context as data_analyses
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.news_articles import context as news_articles
from tidemill.contexts.system_logs import context as system_logs
from tidemill.contexts.users import context as users
from tidemill.domain.collection import Collection, CollectionKind
from tidemill.domain.context import Context
from tidemill.domain.messages import Outcome
from tidemill.domain.stream import Stream
from tidemill.security.principals import ALL_COLLECTIONS, Grant, Principal, PrincipalKind, Verb
from tidemill.submissions.command_index import CommandIndex
from tidemill.submissions.documents import Documents
from tidemill.submissions.lookup import CommandStatus
from tidemill.submissions.ports import CommandRecord, LoggedOutcome
from tidemill.submissions.requests import Caller
from tidemill.submissions.sender import Submitter, SubmitterOptions, SubmitterParts
from tidemill.submissions.writes import Writes

CONTEXTS = (client_configs, connector_profiles, data_analyses, market_data, news_articles, system_logs, users)
EVERYTHING = Grant(frozenset({Verb.READ, Verb.CREATE, Verb.UPDATE, Verb.DELETE}))
SERVICE = Principal("shop", PrincipalKind.SERVICE, {ALL_COLLECTIONS: EVERYTHING})
NOW = datetime(2026, 11, 30, 10, tzinfo=UTC)


def collections_of(*contexts: Context) -> dict[str, Collection]:
    """Return the collections that contexts declare: facts, and what is read of states."""
    found = []
    for context in contexts:
        for state in context.states:
            table = state.table if state.view is None else state.view.table
            name = state.name.replace("_", "-")
            found.append(_collection(name, CollectionKind.STATE, context, table, (state.key,)))
        for table in dict.fromkeys(
            spec.appends_to for spec in context.commands if spec.appends_to is not None
        ):
            name = str(table.name).replace("_", "-")
            found.append(_collection(name, CollectionKind.FACTS, context, table, ()))
    return {collection.name: collection for collection in found}


def _collection(
    name: str, kind: CollectionKind, context: Context, table: Any, key: tuple[str, ...]
) -> Collection:
    crud = context.crud_of(table)
    return Collection(name=name, kind=kind, aggregate=context.aggregate, table=table, key=key, crud=crud)


COLLECTIONS = collections_of(*CONTEXTS)
STREAMS = {context.aggregate: Stream.of(context) for context in CONTEXTS}


def caller(key: str | None = None, principal: Principal = SERVICE, **fields: Any) -> Caller:
    """Return who asks."""
    return Caller(principal=principal, idempotency_key=key, **fields)


def documents() -> Documents:
    """Return what makes commands; ids that it makes count from 1."""
    numbers = count(1)
    index = CommandIndex(STREAMS, COLLECTIONS.values())
    return Documents(index, now=lambda: NOW, new_id=lambda: f"made-{next(numbers)}")


@dataclass
class Submissions:
    """A process that submits, over fakes. `clock`: moved by hand."""

    options: SubmitterOptions = field(default_factory=SubmitterOptions)
    clock: HandClock = field(default_factory=HandClock)
    payloads: MemoryPayloads = field(default_factory=MemoryPayloads)
    sender: MemorySender = field(default_factory=MemorySender)
    inbox: MemoryInbox = field(default_factory=MemoryInbox)
    log: MemoryOutcomes = field(default_factory=MemoryOutcomes)
    journal: MemoryIntents = field(default_factory=MemoryIntents)
    rows: MemoryDocuments = field(default_factory=MemoryDocuments)

    def __post_init__(self) -> None:
        self.submitter = Submitter(
            SubmitterParts(
                encoder=self.payloads,
                sender=self.sender,
                replies=self.inbox,
                log=self.log,
                journal=self.journal,
                clock=self.clock,
            ),
            self.options,
        )
        self.writes = Writes(documents=documents(), submitter=self.submitter, reader=self.rows, log=self.log)
        self.status = CommandStatus(log=self.log, intents=self.journal)

    @property
    def sent(self) -> list[CommandRecord]:
        """The records that arrived."""
        return [record for records in self.sender.records.values() for record in records]

    def replying(self, **fields: Any) -> None:
        """Reply to each record when it arrives."""

        def reply(record: CommandRecord, offset: int) -> None:
            correlation = dict(record.headers).get("kafka_correlationId")
            if correlation is not None:
                self.inbox.give(correlation, outcome_fields(record, offset, **fields))

        self.sender.arrived = reply

    def logs(self, identity: str, digest: int, **fields: Any) -> None:
        """Have the log hold an outcome."""
        self.log.logged[identity] = logged(digest, **fields)


def outcome_fields(record: CommandRecord, offset: int, **fields: Any) -> dict[str, Any]:
    """Return the fields of a reply."""
    return {
        "outcome": "applied",
        "original": None,
        "code": None,
        "error_message": None,
        "affected_rows": 1,
        "sequence": 7,
        "position": 9,
        "execution_time": 0.5,
        "partition": record.partition,
        "record_offset": offset,
    } | fields


def logged(digest: int, **fields: Any) -> LoggedOutcome:
    """Return an outcome as the log holds it."""
    plain: dict[str, Any] = {
        "digest": digest,
        "outcome": Outcome.APPLIED,
        "code": None,
        "detail": None,
        "aggregate": "market-data",
        "partition": 0,
        "position": 9,
        "sequence": 7,
        "rows": 1,
        "at": NOW,
        "type": None,
        "service": "shop",
    }
    return LoggedOutcome(**(plain | fields))
