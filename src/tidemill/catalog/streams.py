"""The streams of a deployment: each context with its stream, found by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tidemill.catalog.schemas import MessageSchema, load_messages
from tidemill.domain.archive.policy import Retention
from tidemill.domain.community import CommunityFeature
from tidemill.domain.context import Context
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import ContractError, UsageError
from tidemill.domain.lane import TopicRole
from tidemill.domain.projection import Projection
from tidemill.domain.query import Query
from tidemill.domain.read_view import FactsView, ReadModel, ReadView
from tidemill.domain.state import State
from tidemill.domain.stream import Stream
from tidemill.domain.table_shape import leading_time
from tidemill.runtime.resources import schemas_dir

_OUTCOME: Final = "outcome"


@dataclass(frozen=True)
class ContextStream:
    """A context and its stream."""

    context: Context
    stream: Stream

    @property
    def schemas(self) -> Path:
        """Return the folder with the context's schemas."""
        return self.context.schemas or schemas_dir()

    def messages(self) -> dict[str, MessageSchema]:
        """Return the schemas of the context's commands and events, by full name. Raises `ContractError`."""
        return load_messages(self.schemas, self.context.name)

    def with_lanes(self, partitions: int) -> ContextStream:
        """Return it with its created number of lanes."""
        return replace(self, stream=replace(self.stream, partitions=partitions))


@dataclass(frozen=True)
class StreamCatalog:
    """The streams of a deployment. `contexts`: by aggregate. `archive`: None if no table has a retention."""

    contexts: Mapping[str, ContextStream]
    archive: ContextStream | None = None

    @property
    def policies(self) -> dict[str, Retention]:
        """Return the retention policies, by table (`schema.table`)."""
        declared = (part.context.retention for part in self.contexts.values())
        return {policy.table_name: policy for policy in declared if policy is not None}

    @property
    def community(self) -> dict[str, tuple[CommunityFeature, ...]]:
        """Return what contexts want of TimescaleDB's Community edition, by aggregate."""
        declared = {aggregate: part.context.community for aggregate, part in self.contexts.items()}
        return {aggregate: features for aggregate, features in declared.items() if features}

    @property
    def streams(self) -> dict[str, ContextStream]:
        """Return every stream by aggregate: those of the contexts, and the archive's."""
        archive = {self.archive.stream.aggregate: self.archive} if self.archive else {}
        return {**self.contexts, **archive}

    def of(self, aggregate: str) -> ContextStream:
        """Return the stream of an aggregate, which may be written like its context. Raises `UsageError`."""
        streams = self.streams
        found = streams.get(aggregate.replace("_", "-"))
        if found is None:
            raise UsageError(
                f"there is no aggregate {aggregate!r}",
                code=ErrorCode.UNKNOWN_NAME,
                name=aggregate,
                choices=tuple(streams),
            )
        return found

    def aggregate(self, name: str | None) -> str | None:
        """Return the named aggregate, None for None. Raises `UsageError`."""
        return self.of(name).stream.aggregate if name else None

    def projection(self, name: str) -> tuple[ContextStream, Projection]:
        """Return a projection and the stream that it folds. Raises `UsageError`."""
        found = self.projections()
        if name not in found:
            raise UsageError(
                f"there is no read model {name!r}",
                code=ErrorCode.UNKNOWN_NAME,
                name=name,
                choices=tuple(found),
            )
        return found[name]

    def projections(self) -> dict[str, tuple[ContextStream, Projection]]:
        """Return every projection by name."""
        return {
            projection.name: (part, projection)
            for part in self.contexts.values()
            for projection in part.context.projections
        }

    def codes(self) -> dict[str, Mapping[str, str]]:
        """Return the contexts' own codes with their advice, by aggregate."""
        return {part.stream.aggregate: part.context.codes for part in self.contexts.values()}

    def states(self) -> dict[str, tuple[ContextStream, Projection]]:
        """Return the state of every aggregate with rules, by name, as a read model of its events."""
        return {
            name: (part, state.as_projection(name))
            for aggregate, part in self.contexts.items()
            for name, state in _named(aggregate, part.context.states).items()
        }

    def views(self) -> dict[str, tuple[ContextStream, str, ReadView]]:
        """Return what readers see of states, by name: the stream, the name of the state, the view."""
        return {
            state.view.name: (part, name, state.view)
            for aggregate, part in self.contexts.items()
            for name, state in _named(aggregate, part.context.states).items()
            if state.view is not None
        }

    def readable(self) -> dict[str, ReadModel]:
        """Return all that can be read, by name: facts only if no read model has their name.

        Raises `ContractError` if two contexts use one name for a read model.
        """
        projections = {name: projection for name, (_, projection) in self.projections().items()}
        views = {name: view for name, (_, _, view) in self.views().items()}
        if both := projections.keys() & views.keys():
            raise ContractError(f"two contexts have a read model named {', '.join(sorted(both))}")
        facts = {view.name: view for part in self.contexts.values() for view in _facts(part.context)}
        return {**facts, **projections, **views}

    def facts(self, aggregate: str) -> list[FactsView]:
        """Return the tables of facts of an aggregate."""
        return _facts(self.contexts[aggregate].context)

    def queries(self) -> dict[str, Query]:
        """Return the declared queries, by name. Raises `ContractError` if a name is used twice, or by a collection."""
        declared = [query for part in self.contexts.values() for query in part.context.queries]
        names = [query.name for query in declared] + list(self.readable())
        if twice := sorted({query.name for query in declared if names.count(query.name) > 1}):
            raise ContractError(f"two queries, or a query and a collection, are named {', '.join(twice)}")
        return {query.name: query for query in declared}

    def state_behind(self, name: str) -> str:
        """Return the name of the state that a read model shows, or else the same name."""
        shown = self.views().get(name)
        return name if shown is None else shown[1]

    def owner_of(self, topic: str) -> tuple[ContextStream, TopicRole] | None:
        """Return the stream that a topic belongs to, and in which role; None for a topic of another program."""
        for part in self.streams.values():
            for role, name in part.stream.topics.named().items():
                if name == topic:
                    return part, role
        return None

    def topics(self) -> frozenset[str]:
        """Return the names of all topics of this deployment."""
        return frozenset(
            name for part in self.streams.values() for name in part.stream.topics.named().values()
        )


def _facts(context: Context) -> list[FactsView]:
    """Return the tables that a context appends to."""
    policy = context.retention
    tables = dict.fromkeys(spec.appends_to for spec in context.commands if spec.appends_to is not None)
    views = {facts.table: facts.view for facts in context.current}
    times = {
        table: policy.time_column if policy and policy.table is table else leading_time(table)
        for table in tables
    }
    return [
        FactsView(views.get(table, table), time, table if table in views else None)
        for table, time in times.items()
    ]


def _named(aggregate: str, states: Sequence[State]) -> dict[str, State]:
    """Return the states of a stream by the names that people give; a family's have their collection's in them."""
    if len(states) == 1:
        return {f"{aggregate}/state": states[0]}
    return {f"{aggregate}/{state.name}": state for state in states}


def outcome_messages() -> dict[str, MessageSchema]:
    """Return the schemas of outcomes, which all contexts share."""
    return load_messages(schemas_dir(), _OUTCOME)
