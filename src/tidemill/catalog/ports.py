"""What the catalog needs from the outside: a schema registry, if there is one."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

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
