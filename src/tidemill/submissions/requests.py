"""What is asked of a write by HTTP, and what becomes of it: values without any of HTTP's types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tidemill.domain.collection import Collection
from tidemill.domain.identity import identify
from tidemill.domain.messages import CommandBase, Outcome
from tidemill.security.principals import Principal, Verb
from tidemill.submissions.command_index import CommandTarget
from tidemill.submissions.preconditions import ANY, Precondition


class DocumentVerb(StrEnum):
    """What is to happen to a document. `REPLACE` gives every field, `PATCH` those that change."""

    CREATE = "create"
    REPLACE = "replace"
    PATCH = "patch"
    DELETE = "delete"

    @property
    def granted_by(self) -> Verb:
        """Return the verb of a grant."""
        return Verb(self.value) if self.value in {"create", "delete"} else Verb.UPDATE


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, and what holds for all of a request.

    `idempotency_key`: as `identifiers.idempotency_key` returns it; None: it has none. `address`: of the client, for the
    journal. `trace`: the header `traceparent`.
    """

    principal: Principal
    idempotency_key: str | None = None
    correlation_id: str | None = None
    trace: str | None = None
    address: str | None = None


@dataclass(frozen=True, kw_only=True)
class DocumentRequest:
    """A write of a document. `key`: of the URL, None for `CREATE`. `body`: of JSON, None if there is none.

    `given`: fields that the body may leave out, as the document in force has them.
    """

    collection: Collection
    verb: DocumentVerb
    key: str | None = None
    body: Mapping[str, Any] | None = None
    precondition: Precondition = ANY
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A command that may be sent. `key`: of the document that it is about, None if it is about none.

    `version`: that the document has once the command was applied, None where that is not certain.
    """

    command: CommandBase
    target: CommandTarget
    principal: Principal
    key: str | None = None
    version: int | None = None
    trace: str | None = None
    address: str | None = None

    @property
    def command_id(self) -> str:
        """Return the id as the client knows it."""
        return self.command.command_id

    @property
    def identity(self) -> str:
        """Return the id by which duplicates are found."""
        return identify(self.command.command_id, self.command.service_name)


@dataclass(frozen=True, slots=True)
class LaneToken:
    """A lane and the sequence that a reader must have seen: `market-data.17=4711`."""

    aggregate: str
    partition: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.aggregate}.{self.partition}={self.sequence}"


@dataclass(frozen=True, kw_only=True)
class SubmissionResult:
    """What became of a command.

    `outcome`: None while it is not known: ask `CommandStatus` by `command_id`. `original`: of a duplicate, the outcome
    of the first one, whose code, message, rows and token these are. `version`: of the document, where it is certain.
    `key`: of the document. `execution_time_s`: of its batch. `transaction_id`: lane and position.
    """

    command_id: str
    outcome: Outcome | None = None
    original: Outcome | None = None
    code: str | None = None
    message: str | None = None
    affected_rows: int = 0
    token: LaneToken | None = None
    version: int | None = None
    key: str | None = None
    execution_time_s: float = 0.0
    transaction_id: str | None = None

    @property
    def applied(self) -> bool:
        """Tell whether the command, or the first one with its id, took effect."""
        return Outcome.APPLIED in (self.outcome, self.original)
