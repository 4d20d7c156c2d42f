"""What the catalog needs from the outside: a schema registry, if there is one, and tables as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from tidemill.catalog.structure import Difference
from tidemill.catalog.topics import TopicFinding, TopicPlan
from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream

Compatibility = Literal["BACKWARD_TRANSITIVE", "FULL_TRANSITIVE"]


class Registered(NamedTuple):
    """A schema that a registry knows by an id, and every subject under which it does."""

    text: str
    subjects: frozenset[str]


class SchemaRegistry(Protocol):
    """A registry as Confluent defined it: ids for schemas, subjects for their histories.

    Every call has a deadline of its own and may raise `Unavailable("registry", ...)`.
    """

    async def find(self, schema_id: int) -> Registered | None:
        """Return the schema with this id, None if there is none."""
        ...

    async def id_of(self, subject: str, text: str) -> int | None:
        """Return the id of a schema under a subject, None if it is not registered there."""
        ...

    async def register(self, subject: str, text: str) -> int:
        """Add a version to a subject, unless it is there already; return its id.

        Raises `ContractError` if the registry refuses it as incompatible.
        """
        ...

    async def require(self, subject: str, level: Compatibility) -> None:
        """Let the registry refuse incompatible versions of a subject that has at least one."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class DeclaredTables(Protocol):
    """The tables that contexts declare, beside those that are there, as the login that is asked with meets them.

    Every call may raise `Unavailable`.
    """

    async def stream_differences(self, stream: Stream) -> list[Difference]:
        """Return how the tables that a stream's commands work with differ from what is declared."""
        ...

    async def projection_differences(self, projection: Projection) -> list[Difference]:
        """Return how the table of a read model differs from what is declared."""
        ...


class PendingMigrations(Protocol):
    """What the database still lacks."""

    async def missing(self) -> Sequence[str]:
        """Return the revisions that this version needs and the database lacks. Raises `UsageError`, `Unavailable`."""
        ...


class TopicStore(Protocol):
    """Makes and looks at topics. Every call has a deadline and raises `Unavailable`."""

    async def create(self, plans: Sequence[TopicPlan]) -> list[str]:
        """Make the topics that do not exist and return their names; when it returns, every partition has a leader.

        An existing topic is left as it is: see `check` and `raise_limits`. Raises `UsageError` if the broker refuses
        one.
        """
        ...

    async def raise_limits(self, plans: Sequence[TopicPlan]) -> list[TopicFinding]:
        """Let existing topics take batches as large as planned; return what was raised, once it is in force.

        A larger limit stays, and so does every other setting. Raises `UsageError` if the broker refuses.
        """
        ...

    async def check(self, plans: Sequence[TopicPlan]) -> list[TopicFinding]:
        """Return what differs from `plans`."""
        ...
