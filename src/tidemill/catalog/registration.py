"""Putting the schemas of a stream into a registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidemill.catalog.ports import Compatibility, SchemaRegistry
from tidemill.catalog.schemas import MessageSchema
from tidemill.domain.lane import StreamTopics


@dataclass(frozen=True)
class Registration:
    """A schema in a registry: `version` counts the versions in the folder, from 1."""

    subject: str
    version: int
    schema_id: int


def subject_of(topic: str, name: str) -> str:
    """Return the subject of a message in a topic, by Confluent's TopicRecordNameStrategy."""
    return f"{topic}-{name}"


async def register_schemas(
    registry: SchemaRegistry, topics: StreamTopics, messages: Mapping[str, MessageSchema]
) -> list[Registration]:
    """Register every version of every message under its topic, oldest first, and set their compatibility rules.

    `messages`: those of the stream's context and of `outcome`. May be repeated: what exists stays.

    Raises:
        ContractError: the registry refuses a version as incompatible.
        Unavailable: the registry is unavailable; what was registered until then stays.
    """
    return [
        registration
        for message in messages.values()
        for registration in await _register(registry, topics, message)
    ]


async def _register(
    registry: SchemaRegistry, topics: StreamTopics, message: MessageSchema
) -> list[Registration]:
    topic = {"command": topics.commands, "event": topics.events, "outcome": topics.outcomes}[message.role]
    level: Compatibility = "BACKWARD_TRANSITIVE" if message.role == "command" else "FULL_TRANSITIVE"
    subject = subject_of(topic, message.name)
    registered = []
    for version, schema in enumerate(message.versions, start=1):
        schema_id = await registry.register(subject, schema.text)
        registered.append(Registration(subject, version, schema_id))
        if version == 1:  # a rule cannot be set on a subject without versions
            await registry.require(subject, level)
    return registered
