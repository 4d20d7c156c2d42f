"""Messages: the base classes of commands and events, and what an outcome can be.

The specification's names and fields (`CommandBase`, `ReadModelBase`) are kept; fields are only added, as optional ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function

from tidemill.domain.carried_fields import left_out_by, unvalidated
from tidemill.domain.checks import FieldCheck, TimedCheck
from tidemill.domain.field_rules import NO_CONTROLS, describe

Label = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NO_CONTROLS)]
"""A short text without control characters: PostgreSQL refuses NUL, terminals and logs interpret the others."""


class Message(BaseModel):
    """A command or event in Python; its wire form is the `.avsc` of the same name.

    `checks`: what must hold beyond the types of its fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    checks: ClassVar[tuple[FieldCheck | TimedCheck, ...]] = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate what is declared in `checks`, too; a class without any costs nothing."""
        schema = handler(source)
        faults = [check.fault for check in cls.checks if isinstance(check, FieldCheck)]
        if not faults or _is_checked(schema):
            return schema

        def checked(message: Message) -> Message:
            if wrong := [fault for fault_of in faults if (fault := fault_of(message))]:
                raise ValueError("; ".join(wrong))
            return message

        return no_info_after_validator_function(checked, schema)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        """Say in JSON Schema what is declared in `checks`, too, and what validators of the types demand."""
        schema = handler(core_schema)
        describe(handler.resolve_ref_schema(schema).get("properties", {}), cls.model_fields, cls.checks)
        return schema


def _is_checked(schema: CoreSchema) -> bool:
    """Tell whether it validates `checks` already: of the items of another class, pydantic has the finished schema."""
    return bool(schema["type"] == "function-after" and schema["function"]["function"].__module__ == __name__)


class CommandBase(Message):
    """An instruction. `timestamp` is the client's time: it is recorded, but never used for decisions."""

    command_id: Label
    service_name: Label
    timestamp: datetime
    correlation_id: Label | None = None


class EventBase(Message):
    """A fact. The four fields are those of the command that caused it; the server's time is header `ce_time`."""

    command_id: Label
    service_name: Label
    timestamp: datetime
    correlation_id: Label | None = None

    @classmethod
    def of(cls, command: CommandBase) -> Self:
        """Return the event that carries the command's fields of the same names."""
        left_out = left_out_by(cls, type(command))
        if left_out is None:
            names, values = _fields_of(cls)
            fields = dict(zip(names, values(command), strict=True))
            return cls.model_validate(fields, from_attributes=True)  # records within are of another class
        fields = command.__dict__.copy()
        for name in left_out:
            del fields[name]
        return unvalidated(cls, fields)


@lru_cache(maxsize=1_000)
def _fields_of(message: type[Message]) -> tuple[tuple[str, ...], Callable[[Message], tuple[Any, ...]]]:
    """Return the names of the fields, of which there are several, and what reads them all."""
    names = tuple(message.model_fields)
    return names, attrgetter(*names)


BASE_FIELDS = tuple(CommandBase.model_fields)
"""The fields that every command and event begins with, in wire order."""


class Outcome(StrEnum):
    """The outcome of a record. The value is the text in outcome messages, the initial is what the log stores."""

    APPLIED = "applied"
    REJECTED = "rejected"
    DUPLICATE = "duplicate"
    PARKED = "parked"

    @property
    def letter(self) -> bytes:
        """The one byte stored in the log: `a`, `r`, `d` or `p`."""
        return self.value[0].encode()

    @classmethod
    def of_letter(cls, letter: bytes) -> Outcome:
        """Return the outcome of the log's byte."""
        return _BY_LETTER[letter]


_BY_LETTER = {outcome.letter: outcome for outcome in Outcome}


_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class ReadModelBase:
    """A row of a read model; the engine fills these fields, a projection's fold fills the rest.

    All are derived from events, so that a rebuild gives equal rows: ids from the key, times from `ce_time`,
    `version` counts the events folded into the row.
    """

    id: int = 0
    uuid: UUID = field(default_factory=lambda: UUID(int=0))
    created_at: datetime = _NEVER
    updated_at: datetime = _NEVER
    version: int = 0


class QueryBase(Message):
    """A question. `query_id` is a UUIDv7 of ours, `service_name` the principal who asks, `timestamp` the server's."""

    query_id: Label
    service_name: Label
    timestamp: datetime
    correlation_id: Label | None = None
