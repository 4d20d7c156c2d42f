"""Members of JSON objects, exchanged without any change of the others: numbers keep every digit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex
from typing import Any


@dataclass(frozen=True)
class Member:
    """A member of a JSON object, or an item of a list. `path`: the names and numbers that lead to it."""

    path: tuple[str, ...]
    value: Any
    mark: str

    @property
    def is_null(self) -> bool:
        """Tell whether there is nothing in it."""
        return self.value is None

    @property
    def string(self) -> str | None:
        """Return its text if it is a string."""
        return self.value if isinstance(self.value, str) and not self.value.startswith(self.mark) else None

    @property
    def text(self) -> str:
        """Return its JSON text."""
        return _written(self.value, self.mark)


Change = Callable[[Member], str | None]
"""Returns the JSON text that takes the place of a member, or None to look inside it."""


def exchange(text: str, change: Change) -> str:
    """Return a JSON text with members exchanged; the same text if none is.

    Raises:
        ValueError: it is not JSON.
    """
    mark = token_hex(8)  # numbers are texts that begin with it meanwhile: a float would lose digits
    changes = 0

    def read(part: str) -> Any:
        return json.loads(part, parse_int=mark.__add__, parse_float=mark.__add__)

    def walk(path: tuple[str, ...], value: Any) -> Any:
        nonlocal changes
        instead = change(Member(path, value, mark)) if path else None
        if instead is not None:
            changes += 1
            return read(instead)
        if isinstance(value, dict):
            return {name: walk((*path, name), part) for name, part in value.items()}
        if isinstance(value, list):
            return [walk((*path, str(index)), part) for index, part in enumerate(value)]
        return value

    changed = walk((), read(text))
    return _written(changed, mark) if changes else text


def _written(value: Any, mark: str) -> str:
    return re.sub(f'"{mark}([^"]*)"', r"\1", json.dumps(value, ensure_ascii=False))
