"""The ports of the catalog: a schema registry, if there is one, and the present tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from tidemill.catalog.tables import Difference
from tidemill.catalog.topics import TopicFinding, TopicPlan
from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream

Compatibility = Literal["BACKWARD_TRANSITIVE", "FULL_TRANSITIVE"]


class Registered(NamedTuple):
    """A schema that a registry knows by an id, and all its subjects."""

    text: str
    subjects: frozenset[str]


class SchemaRegistry(Protocol):
    """A registry with Confluent's API: ids for schemas, subjects for their histories.

    Every call has a deadline of its own and may raise `Unavailable("registry", ...)`.
    """

    async def find(self, schema_id: int) -> Registered | None:
        """Return the schema with this id, None if there is none."""
        ...

    async def id_of(self, subject: str, text: str) -> int | None:
        """Return the id of a schema under a subject, None if it is not registered there."""
        ...

    async def register(self, subject: str, text: str) -> int:
        """Add a version to a subject, unless it exists; return its id.

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
    """The declared tables of contexts compared with the present ones, as the present login sees them.

    Every call may raise `Unavailable`.
    """

    async def stream_differences(self, stream: Stream) -> list[Difference]:
        """Return how the tables of a stream's commands differ from what is declared."""
        ...

    async def projection_differences(self, projection: Projection) -> list[Difference]:
        """Return how the table of a read model differs from what is declared."""
        ...


class PendingMigrations(Protocol):
    """The missing revisions of the database."""

    async def missing(self) -> Sequence[str]:
        """Return the revisions that this version needs and the database lacks. Raises `UsageError`, `Unavailable`."""
        ...


class TopicStore(Protocol):
    """Creates and inspects topics. Every call has a deadline and raises `Unavailable`."""

    async def create(self, plans: Sequence[TopicPlan]) -> list[str]:
        """Create the topics that do not exist and return their names; on return every partition has a leader.

        An existing topic is not changed: see `check` and `raise_limits`. Raises `UsageError` if the broker refuses
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
