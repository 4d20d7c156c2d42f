"""What a deployment is made of: its settings, its contexts, and the stream of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tidemill.app import archive_stream
from tidemill.app.context_loading import load_contexts
from tidemill.catalog.schemas import Message, load_messages
from tidemill.domain.archive.policy import Retention
from tidemill.domain.context import Context
from tidemill.domain.errors import UsageError
from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream
from tidemill.runtime.resources import schemas_dir
from tidemill.settings import Settings
from tidemill.settings.policies import policies_told

_OUTCOME = "outcome"


@dataclass(frozen=True)
class Part:
    """A context and its stream."""

    context: Context
    stream: Stream

    @property
    def schemas(self) -> Path:
        """Return the folder with the context's schemas."""
        return self.context.schemas or schemas_dir()

    def messages(self) -> dict[str, Message]:
        """Return the schemas of the context's commands and events, by full name. Raises `ContractError`."""
        return load_messages(self.schemas, self.context.name)

    def with_lanes(self, partitions: int) -> Part:
        """Return the part with the number of lanes that it was created with."""
        return replace(self, stream=replace(self.stream, partitions=partitions))


@dataclass(frozen=True)
class Deployment:
    """All contexts of this deployment, by aggregate."""

    settings: Settings
    parts: Mapping[str, Part]

    @property
    def policies(self) -> dict[str, Retention]:
        """Return what leaves for the archive, by table (`schema.table`)."""
        declared = (part.context.retention for part in self.parts.values())
        return {policy.table_name: policy for policy in declared if policy is not None}

    @property
    def archive(self) -> Part | None:
        """Return the archive and its stream, None if no table leaves for it."""
        if not self.policies:
            return None
        return Part(archive_stream.context, archive_stream.archive_stream(self.settings.topics.prefix))

    @property
    def streams(self) -> dict[str, Part]:
        """Return every stream of the deployment: those of the contexts, and the archive's."""
        archive = self.archive
        return {**self.parts, **({archive.stream.aggregate: archive} if archive else {})}

    @classmethod
    def of(cls, settings: Settings, contexts: tuple[Context, ...] | None = None) -> Deployment:
        """Return the deployment with these contexts; by default those that the settings choose.

        Raises:
            ContractError: a context cannot be loaded.
            UsageError: a context is chosen that does not exist, or a policy is set for a table that no context lets
                leave.
        """
        parts = {}
        told = policies_told(settings.retention.policies)
        for declared in load_contexts(settings.contexts) if contexts is None else contexts:
            context = _told(declared, told)
            stream = Stream.of(context, prefix=settings.topics.prefix)
            partitions = settings.topics.partitions or stream.partitions
            parts[context.aggregate] = Part(context, replace(stream, partitions=partitions))
        deployment = cls(settings, parts)
        if unknown := told.keys() - deployment.policies.keys():
            raise UsageError(
                f"TIDEMILL_RETENTION_POLICIES: no context declares a retention of {', '.join(sorted(unknown))}; "
                f"expected some of {', '.join(deployment.policies) or 'none'}"
            )
        return deployment

    def part(self, aggregate: str) -> Part:
        """Return the part of an aggregate, which may be written like its context. Raises `UsageError`."""
        streams = self.streams
        found = streams.get(aggregate.replace("_", "-"))
        if found is None:
            raise UsageError(f"there is no aggregate {aggregate!r}: choose one of {', '.join(streams)}")
        return found

    def projection(self, name: str) -> tuple[Part, Projection]:
        """Return a projection and the part that it belongs to. Raises `UsageError`."""
        found = self.projections()
        if name not in found:
            raise UsageError(f"there is no read model {name!r}: choose one of {', '.join(found)}")
        return found[name]

    def projections(self) -> dict[str, tuple[Part, Projection]]:
        """Return every projection by name."""
        return {
            projection.name: (part, projection)
            for part in self.parts.values()
            for projection in part.context.projections
        }

    def states(self) -> dict[str, tuple[Part, Projection]]:
        """Return the state of every aggregate that is decided, by name, as a read model of its events."""
        found = ((f"{name}/state", part, part.context.state) for name, part in self.parts.items())
        return {name: (part, state.as_projection(name)) for name, part, state in found if state is not None}

    def topics(self) -> frozenset[str]:
        """Return the names of all topics that are ours."""
        return frozenset(
            name for part in self.streams.values() for name in part.stream.topics.named().values()
        )


def _told(context: Context, policies: Mapping[str, Mapping[str, Any]]) -> Context:
    """Return the context with its retention as the settings tell it."""
    declared = context.retention
    if declared is None or declared.table_name not in policies:
        return context
    return replace(context, retention=declared.told(policies[declared.table_name]))


def outcome_messages() -> dict[str, Message]:
    """Return the schemas of outcomes, which all contexts share."""
    return load_messages(schemas_dir(), _OUTCOME)
