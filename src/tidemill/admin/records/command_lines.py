"""Lines of JSON become commands.

A line's command_id, if it has none, is made from the fields that the command declares for it, or else from the line
itself: the same file sent again repeats the same commands, and each of them is applied once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from pydantic import ValidationError

from tidemill.admin.records.cut_values import cut_values, whole_object
from tidemill.domain.errors import UsageError
from tidemill.domain.messages import BASE_FIELDS, CommandBase
from tidemill.domain.partial_message import faults_of_valid_fields

LINES: Final = UUID("a9d0f2c8-66b1-5d36-9f3a-3a52d9c0c1f4")
"""Namespace of command ids that are made from lines."""

_MAX_MISTAKES: Final = 10


@dataclass(frozen=True)
class Line:
    """A command that was read from a line; `number` counts from 1."""

    number: int
    command: CommandBase


class LineReader:
    """Makes commands of one kind from lines of JSON."""

    def __init__(
        self,
        model: type[CommandBase],
        *,
        service: str,
        now: Callable[[], datetime],
        own_id: Callable[[CommandBase], str | None] = lambda _: None,
    ) -> None:
        """`service`, `now`: the defaults of a line that has none. `own_id`: the id that a command's fields say."""
        self._model = model
        self._service = service
        self._now = now
        self._own_id = own_id
        self._seen: Counter[str] = Counter()

    def fresh(self) -> LineReader:
        """Return a reader at its first line."""
        return LineReader(self._model, service=self._service, now=self._now, own_id=self._own_id)

    def read(self, lines: Iterable[str], name: str) -> Iterator[Line]:
        """Return the command of each line that is not blank; `name` is the file's, for messages.

        Raises:
            UsageError: lines are not commands; one message each for the first ten.
        """
        mistakes: list[str] = []
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                command = self._command(text.rstrip())  # or a fault at the end is told of the line below
            except ValueError as error:
                mistakes += [f"{name}:{number}: {mistake}" for mistake in _mistakes(error)]
                if len(mistakes) >= _MAX_MISTAKES:
                    break
                continue
            if not mistakes:
                yield Line(number, command)
        if mistakes:
            raise UsageError(
                "\n".join([*mistakes[:_MAX_MISTAKES], "no later line was sent: correct the lines"])
            )

    def _command(self, text: str) -> CommandBase:
        fields = whole_object(text)
        if not isinstance(fields, dict):
            raise ValueError("expected an object, {...}")  # noqa: TRY004  it is the line's value that is wrong
        filled = {
            "command_id": self._id(fields),
            "service_name": self._service,
            "timestamp": self._now().isoformat(),
        }
        command = self._valid(filled | fields)
        if cut := list(cut_values(text, command)):
            raise ValueError(*cut)
        own_id = None if "command_id" in fields else self._own_id(command)
        return command if own_id is None else command.model_copy(update={"command_id": own_id})

    def _valid(self, fields: Mapping[str, Any]) -> CommandBase:
        try:
            return self._model.model_validate_json(json.dumps(fields))
        except ValidationError as error:
            further = faults_of_valid_fields(self._model, fields, error)
            raise ValueError(*_field_mistakes(error), *further) from error

    def _id(self, fields: Mapping[str, Any]) -> str:
        """Name a line by its content, and by the number of equal lines before it."""
        content = {name: value for name, value in fields.items() if name not in BASE_FIELDS}
        text = f"{self._model.__name__} {json.dumps(content, sort_keys=True)}"
        self._seen[text] += 1
        return str(uuid5(LINES, f"{text} {self._seen[text]}"))


def _mistakes(error: ValueError) -> Iterator[str]:
    if isinstance(error, json.JSONDecodeError):
        yield f"invalid JSON: {error.msg} at column {error.colno}"
    else:
        yield from map(str, error.args)


def _field_mistakes(error: ValidationError) -> Iterator[str]:
    for mistake in error.errors(include_url=False):
        where = ".".join(str(part) for part in mistake["loc"])
        said = mistake["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        yield f"{where}: {said}" if where else said
