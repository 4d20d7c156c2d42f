"""Who asks, and what it may do: deny by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Verb(StrEnum):
    """What a grant allows on a collection. `OPERATE`, on the collection `*`, is for what operators look at."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    OPERATE = "operate"


class PrincipalKind(StrEnum):
    """What a principal is. `DEVELOPMENT`: whoever asks, on loopback, while no principal is configured."""

    SERVICE = "service"
    PERSON = "person"
    DEVELOPMENT = "development"


ALL_COLLECTIONS = "*"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a principal may do with a collection. `hidden`: columns that do not exist for it."""

    verbs: frozenset[Verb]
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Principal:
    """A service or person as authenticated. `grants`: by collection; `*` is for those that have none of their own."""

    name: str
    kind: PrincipalKind
    grants: Mapping[str, Grant] = field(default_factory=dict)

    def grant(self, collection: str) -> Grant | None:
        """Return the grant for a collection, None if it may not even know that the collection exists."""
        return self.grants.get(collection) or self.grants.get(ALL_COLLECTIONS)

    def may(self, verb: Verb, collection: str) -> bool:
        """Tell whether it may do this with the collection."""
        grant = self.grant(collection)
        return grant is not None and verb in grant.verbs

    def hidden(self, collection: str) -> frozenset[str]:
        """Return the columns of a collection that do not exist for it."""
        grant = self.grant(collection)
        return frozenset() if grant is None else grant.hidden


DEVELOPMENT: Final = Principal(
    "development", PrincipalKind.DEVELOPMENT, {ALL_COLLECTIONS: Grant(frozenset(Verb))}
)
"""Who asks on loopback while no principal was ever added: it may do everything."""
