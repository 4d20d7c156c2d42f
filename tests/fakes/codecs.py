"""Codecs whose wire form people can read, and answers that go nowhere: each obeys its port's conformance suite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tidemill.commands.ports import Decoded, Reply
from tidemill.domain.errors import NewerSchema, Unreadable
from tidemill.domain.messages import BASE_FIELDS, CommandBase, EventBase
from tidemill.domain.stream import Stream


class JsonCodec:
    """A `CommandCodec` of JSON: `{"name_of_type": full name, fields...}`; what else there may be is parked.

    `knows_all`: also the schema of commands with a field `newer`.
    """

    def __init__(self, stream: Stream, *, knows_all: bool = False) -> None:
        self.knows_all = knows_all
        self._stream = stream
        self._times = {
            name: [
                field
                for field, info in spec.model.model_fields.items()
                if info.annotation in (datetime, datetime | None)
            ]
            for name, spec in stream.commands.items()
        }

    async def prepare(self, values: Sequence[bytes | None]) -> None:
        return

    def decode(self, values: Sequence[bytes | None]) -> list[Decoded | Unreadable]:
        return [self._one(value) for value in values]

    def encode_event(self, event: EventBase, command: Decoded | None = None) -> bytes:
        del command
        if type(event) not in self._stream.events.values():
            raise KeyError(type(event))
        return event.model_dump_json().encode()

    def appended_event(self, command: Decoded, event: type[EventBase]) -> bytes:
        return self.encode_event(event.model_validate(command.fields))

    def _one(self, value: bytes | None) -> Decoded | Unreadable:
        try:
            fields: dict[str, Any] = json.loads(value or b"")
            name = fields.pop("name_of_type")
            newer = fields.pop("newer", False)
            facts = {key: held for key, held in fields.items() if key not in BASE_FIELDS}
            for field in self._times.get(name, ()):
                fields[field] = fields[field] and datetime.fromisoformat(fields[field])
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            return Unreadable("MALFORMED", f"not a JSON command: {error}")
        if newer and not self.knows_all:
            sender = fields.get("service_name")
            return NewerSchema(f"schema 7 ({name})", schema="7", type_name=name, service=sender)
        if name not in self._stream.commands:
            return Unreadable("UNKNOWN_SCHEMA", f"{name} is no command of this topic")
        return Decoded(name, fields, json.dumps(facts, sort_keys=True).encode(), value)


def encode(stream: Stream, command: CommandBase) -> bytes:
    """Return the value of a command for `JsonCodec`."""
    (name,) = [full for full, spec in stream.commands.items() if spec.model is type(command)]
    return json.dumps({"name_of_type": name, **command.model_dump(mode="json")}).encode()


class Answers:
    """`Replies` that are kept in `sent`. `capacity`: how many; what comes behind is dropped."""

    def __init__(self, capacity: int = 10_000) -> None:
        self.sent: list[Reply] = []
        self._capacity = capacity

    def send(self, replies: Sequence[Reply]) -> None:
        self.sent += replies[: self._capacity - len(self.sent)]
