"""Schemas, put into the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tidemill.catalog.ports import SchemaRegistry
from tidemill.catalog.registration import Registration, register_schemas
from tidemill.catalog.streams import StreamCatalog, outcome_messages
from tidemill.domain.errors import UsageError


@dataclass(frozen=True)
class SchemaSetup:
    """Puts the schemas of a deployment into the registry. `registry`: returns it, None if there is none."""

    catalog: StreamCatalog
    registry: Callable[[], SchemaRegistry | None]

    async def register(self) -> list[Registration]:
        """Register the schemas of every stream. Raises `ContractError`, `UsageError`, `Unavailable`."""
        registry = self.registry()
        if registry is None:
            raise UsageError(
                "TIDEMILL_REGISTRY_URL is not set, so there is no registry to put schemas into; "
                "without one, records carry the fingerprint of their schema, and nothing needs to be registered"
            )
        return [
            registration
            for part in self.catalog.streams.values()
            for registration in await register_schemas(
                registry, part.stream.topics, part.messages() | outcome_messages()
            )
        ]
