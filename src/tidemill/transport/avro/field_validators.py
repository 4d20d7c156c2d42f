"""Validating many messages of one class field by field: pydantic is called once for a field, not once for a message.

Each field has pydantic's own validator for its type and rules, so that messages are refused that the class refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from tidemill.domain.messages import EventBase


class FieldValidators:
    """The fields of a class whose messages are valid as soon as each of their fields is."""

    def __init__(self, message: type[EventBase]) -> None:
        """Make the validators, which takes some milliseconds."""
        self._validators = {
            name: TypeAdapter(
                list[Annotated[info.annotation, info]],  # type: ignore[name-defined]  # a type of a value
                config=message.model_config,
            ).validator
            for name, info in message.model_fields.items()
        }
        self._pick = itemgetter(*self._validators)

    def valid(self, bodies: Sequence[dict[str, Any]]) -> dict[str, list[Any]] | None:
        """Return the fields of messages that one reader decoded, None if the class would refuse one of them."""
        if bodies[0].keys() != self._validators.keys():
            return None
        try:
            columns = map(list, zip(*map(self._pick, bodies), strict=True))
            validators = self._validators.items()
            return {
                name: validator.validate_python(column)
                for (name, validator), column in zip(validators, columns, strict=True)
            }
        except ValidationError:
            return None
