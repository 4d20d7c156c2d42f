"""A deployment: its settings, and the streams of its contexts as configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tidemill.app.context_loader import load_contexts
from tidemill.catalog.references import with_references
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.domain.context import Context
from tidemill.domain.errors import UsageError
from tidemill.domain.stream import Stream
from tidemill.retention.stream import archive_stream
from tidemill.retention.stream import context as archive_context
from tidemill.settings import Settings
from tidemill.settings.policies import policies_told


@dataclass(frozen=True)
class Deployment:
    """All contexts of this deployment, and their settings."""

    settings: Settings
    catalog: StreamCatalog

    @classmethod
    def of(cls, settings: Settings, contexts: tuple[Context, ...] | None = None) -> Deployment:
        """Return the deployment with these contexts; by default those that the settings choose.

        Raises:
            ContractError: a context cannot be loaded, or refers to one that is not chosen.
            UsageError: a context is chosen that does not exist, or a policy is set for a table without a
                retention.
        """
        chosen, streams = {}, {}
        policies = policies_told(settings.retention.policies)
        for declared in load_contexts(settings.contexts) if contexts is None else contexts:
            context = _with_policy(declared, policies)
            stream = Stream.of(context, prefix=settings.topics.prefix)
            partitions = settings.topics.partitions or stream.partitions
            chosen[context.aggregate] = context
            streams[context.aggregate] = replace(stream, partitions=partitions)
        linked = with_references(streams)
        catalog = StreamCatalog(
            {name: ContextStream(chosen[name], stream) for name, stream in linked.items()}
        )
        if unknown := policies.keys() - catalog.policies.keys():
            raise UsageError(
                f"TIDEMILL_RETENTION_POLICIES: no context declares a retention of {', '.join(sorted(unknown))}; "
                f"expected some of {', '.join(catalog.policies) or 'none'}"
            )
        return cls(settings, replace(catalog, archive=_archive(settings)) if catalog.policies else catalog)

    def rehearsed(self, as_of: datetime | None) -> Deployment:
        """Return it with ages computed at `as_of`, if that is given; then nothing waits for a quiet period."""
        if as_of is None:
            return self
        retention = self.settings.retention.model_copy(update={"as_of": as_of})
        return replace(self, settings=self.settings.model_copy(update={"retention": retention}))

    def without_health_port(self) -> Deployment:
        """Return it for a process beside the one that serves, which has the port."""
        health = self.settings.health.model_copy(update={"port": 0})
        return replace(self, settings=self.settings.model_copy(update={"health": health}))


def _archive(settings: Settings) -> ContextStream:
    return ContextStream(archive_context, archive_stream(settings.topics.prefix))


def _with_policy(context: Context, policies: Mapping[str, Mapping[str, Any]]) -> Context:
    """Return the context with its retention as configured."""
    declared = context.retention
    if declared is None or declared.table_name not in policies:
        return context
    return replace(context, retention=declared.told(policies[declared.table_name]))
