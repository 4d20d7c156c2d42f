"""What a line of JSON says and its command would not: digits of times and numbers, and a field that is given twice.

JSON bounds neither, and its readers drop them without a word. What was published is never taken back, so a line that
would lose something is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, time
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel

from tidemill.domain.strict_json import key_given_twice, signed_integer

_BELOW_MICROSECONDS: Final = re.compile(r"[.,]\d{6}\d*[1-9]")


def whole_object(text: str) -> Any:
    """Return the value of a JSON text. Raises `ValueError` where an object gives a field twice."""
    return json.loads(text, object_pairs_hook=_each_once, parse_int=signed_integer)


def cut_values(text: str, model: BaseModel) -> Iterator[str]:
    """Return what of a JSON text the model that was made from it does not have, one message each."""
    return _cut(json.loads(text, parse_float=Decimal), model, "")


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if (twice := key_given_twice(pairs)) is not None:
        raise ValueError(f"{twice}: given {sum(name == twice for name, _ in pairs)} times")
    return dict(pairs)


def _cut(given: Any, value: Any, where: str) -> Iterator[str]:
    if isinstance(value, BaseModel) and isinstance(given, Mapping):
        for name, part in given.items():
            yield from _cut(part, getattr(value, name, None), f"{where}.{name}" if where else name)
    elif isinstance(value, list | tuple) and isinstance(given, list):
        for index, (part, item) in enumerate(zip(given, value, strict=False)):
            yield from _cut(part, item, f"{where}.{index}")
    elif isinstance(value, datetime | time) and isinstance(given, str):
        if _BELOW_MICROSECONDS.search(given):
            yield f"{where}: {given} is finer than a microsecond: round it"
    elif _is_other_number(given, value):
        yield f"{where}: {given} has more digits than the field: round it"


def _is_other_number(given: Any, value: Any) -> bool:
    """Tell whether a number became another one. Fractions are rounded by every reader of a `float`."""
    if isinstance(value, Decimal):
        return isinstance(given, Decimal | int) and given != value
    return isinstance(value, float) and isinstance(given, int) and int(value) != given
