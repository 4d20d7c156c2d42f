"""A stream, which the engine runs. Made from a context, or by a part with its own commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tidemill.domain.archive.policy import Retention
from tidemill.domain.context import CommandSpec, Context, secrets_declared
from tidemill.domain.lane import BATCH_BYTES, StreamTopics
from tidemill.domain.messages import Message
from tidemill.domain.read_view import CurrentFacts
from tidemill.domain.secrets import Secret
from tidemill.domain.state import Reference, State


@dataclass(frozen=True)
class Stream:
    """A family of topics, with the rules for its commands.

    `commands`: Avro full name -> spec. `events`: Avro full name -> class. `key(command)` is the key a record must
    carry; `keyed=False` accepts any key and partition. `batch_bytes`: of records that one transaction takes, as
    `lane.weight` counts them. `states`: what its commands decide about. `others`: name ->
    state of another stream that those refer to. `referring`: name of a state -> what of other streams refers to it and
    keeps its rows from being deleted. `current`: appended tables of which readers see only current revisions.
    """

    aggregate: str
    partitions: int
    topics: StreamTopics
    commands: Mapping[str, CommandSpec]
    events: Mapping[str, type[Message]]
    key: Callable[[Any], str]
    keyed: bool = True
    batch_bytes: int = BATCH_BYTES
    states: tuple[State, ...] = ()
    retention: Retention | None = None
    others: Mapping[str, State] = field(default_factory=dict)
    referring: Mapping[str, tuple[tuple[State, Reference], ...]] = field(default_factory=dict)
    current: tuple[CurrentFacts, ...] = ()

    @cached_property
    def secrets(self) -> Mapping[str, Mapping[str, Secret]]:
        """Return name of a state -> field -> how it is secret; empty for a stream without secrets."""
        return secrets_declared(self.commands.values(), self.states)

    @property
    def namespace(self) -> str:
        """Return what the full names of its commands begin with."""
        return next(iter(self.commands)).rpartition(".")[0]

    @cached_property
    def removals(self) -> Mapping[str, CurrentFacts]:
        """Return full name of a command of the service's own -> the facts of superseded revisions that it removes."""
        return {
            f"{self.namespace}.{facts.removal.command}": facts
            for facts in self.current
            if facts.removal is not None
        }

    @property
    def requires_keys(self) -> bool:
        """Tell whether it has secrets that may not be kept in clear."""
        return any(secret.required for fields in self.secrets.values() for secret in fields.values())

    @classmethod
    def of(cls, context: Context, *, prefix: str = "tidemill") -> Stream:
        """Return the stream of a context, its topics named with `prefix`."""
        return cls(
            aggregate=context.aggregate,
            partitions=context.partitions,
            topics=StreamTopics.of(context.aggregate, prefix=prefix),
            commands={context.full_name(spec.model): spec for spec in context.commands},
            events={context.full_name(event): event for event in context.events},
            key=context.key,
            keyed=context.keyed,
            batch_bytes=context.max_batch_bytes,
            states=context.states,
            retention=context.retention,
            current=context.current,
        )
