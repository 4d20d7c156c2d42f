"""JSON read strictly: what two readers would read differently, or the database would refuse, is a fault.

A key that comes twice, a number that overflows, NaN, half a surrogate pair, NUL, and nesting without a bound.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 64

_MARKS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""A bracket, or a whole string. One without an end goes to the end: else a text of quotes would be read from each."""

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_MAYBE_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]|\\\\u(?:0000|[dD][89a-fA-F])")
_INFINITE: Final = (float("inf"), float("-inf"))
_QUOTED_CHARACTERS: Final = 40


class _MinusZero(int):
    """An integer that a float field takes as -0.0, which JSON writes without a point, too; every other field as 0."""

    def __float__(self) -> float:
        return -0.0


_MINUS_ZERO: Final = _MinusZero()


class JsonFaultKind(Enum):
    """What is wrong with a text that should be JSON."""

    NOT_JSON = auto()
    TOO_DEEP = auto()
    KEY_TWICE = auto()
    NOT_A_NUMBER = auto()
    OUT_OF_RANGE = auto()
    TOO_MANY_DIGITS = auto()
    UNSTORABLE = auto()
    NOT_A_VALUE = auto()
    NOT_AN_OBJECT = auto()


class JsonFault(Exception):
    """A fault, whose text goes on from what the JSON is: "the body", the name of a field.

    `detail`: the literal, the key or the number that it is about.
    """

    def __init__(self, kind: JsonFaultKind, text: str, detail: str = "") -> None:
        """`text`: a predicate, "is not JSON"."""
        super().__init__(text)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class JsonBounds:
    """What a text may have. None: no bound of its own.

    `max_digits`: of an integer. `max_exponent`: of a number, in which an integer's digits and leading zeros count.
    `exact`: integers stay integers; else they are floats, as most readers have them.
    """

    max_depth: int = MAX_DEPTH
    max_digits: int | None = None
    max_exponent: int | None = None
    exact: bool = True


def read_json(text: str, bounds: JsonBounds) -> Any:
    """Return the value of a JSON text. Raises `JsonFault`; its cause is a `JSONDecodeError` where there is a place."""
    if _is_deeper(text, bounds.max_depth):
        raise _too_deep(bounds.max_depth)
    numbers = _Numbers(bounds)
    try:
        value = json.loads(
            text,
            parse_float=numbers.floating,
            parse_int=numbers.whole,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except ValueError as error:
        raise JsonFault(JsonFaultKind.NOT_JSON, f"is not JSON: {error}") from error
    if _MAYBE_UNSTORABLE.search(text):
        check_decoded(value, bounds.max_depth)
    return value


def read_json_object(text: str, bounds: JsonBounds) -> dict[str, Any]:
    """Return the members of a JSON object. Raises `JsonFault`."""
    value = read_json(text, bounds)
    if isinstance(value, dict):
        return value
    raise JsonFault(JsonFaultKind.NOT_AN_OBJECT, "is not a JSON object")


def check_decoded(value: Any, max_depth: int = MAX_DEPTH) -> None:
    """Look into all of a decoded value: JSON can escape what UTF-8 and PostgreSQL cannot hold. Raises `JsonFault`."""
    level: list[Any] = [value]
    for _ in range(max_depth + 1):
        below: list[Any] = []
        for part in level:
            _check_scalar(part)
            if isinstance(part, dict):
                below += [*part, *part.values()]
            elif isinstance(part, list):
                below += part
        if not below:
            return
        level = below
    raise _too_deep(max_depth)


def signed_integer(literal: str) -> int | float:
    """Return an integer of JSON; `-0` as the float -0.0, of which fields of integers make 0."""
    return -0.0 if literal == "-0" else int(literal)


def key_given_twice(members: Sequence[tuple[str, Any]]) -> str | None:
    """Return the first key of an object that comes again, None if each comes once."""
    counts = Counter(key for key, _ in members) if len(dict(members)) < len(members) else Counter()
    return next((key for key, count in counts.items() if count > 1), None)


def is_storable_text(text: str) -> bool:
    """Return whether PostgreSQL can hold a text."""
    return "\x00" not in text if text.isascii() else _UNSTORABLE.search(text) is None


class _Numbers:
    """Reads the numbers of a text."""

    def __init__(self, bounds: JsonBounds) -> None:
        self._bounds = bounds
        self.whole = self._integer if bounds.exact else self.floating

    def floating(self, literal: str) -> float:
        """Refuse what would overflow: 1e400 is infinite to most readers, 1e200000 an error in the database."""
        if self._is_too_wide(literal) or (value := float(literal)) in _INFINITE:
            raise _out_of_range(literal[:_QUOTED_CHARACTERS])
        return value

    def _integer(self, literal: str) -> int:
        if self._bounds.max_digits is not None and len(literal) > self._bounds.max_digits:
            many = str(self._bounds.max_digits)
            text = f"has a number of more than {many} digits"
            raise JsonFault(JsonFaultKind.TOO_MANY_DIGITS, text, many)
        return int(literal) or (_MINUS_ZERO if literal == "-0" else 0)

    def _is_too_wide(self, literal: str) -> bool:
        most = self._bounds.max_exponent
        if most is None:
            return False
        mantissa, _, exponent = literal.lower().partition("e")
        return len(mantissa) > most or len(exponent) > 4 or abs(int(exponent or "0")) > most


def _is_deeper(text: str, max_depth: int) -> bool:
    depth = 0
    for mark in _MARKS.finditer(text):
        first = text[mark.start()]
        depth += (first in "[{") - (first in "]}")
        if depth > max_depth:
            return True
    return False


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that comes twice: readers differ in which one they use, and the database checks all of them."""
    if (twice := key_given_twice(members)) is not None:
        shown = repr(twice[:_QUOTED_CHARACTERS])
        raise JsonFault(JsonFaultKind.KEY_TWICE, f"has a key twice: {shown}", shown)
    return dict(members)


def _check_scalar(value: Any) -> None:
    if isinstance(value, str):
        if not is_storable_text(value):
            text = "has a NUL or half a surrogate pair in a string"
            raise JsonFault(JsonFaultKind.UNSTORABLE, text)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _out_of_range("")


def _constant(literal: str) -> NoReturn:
    raise JsonFault(JsonFaultKind.NOT_A_NUMBER, f"has {literal}, which is not a JSON number", literal)


def _out_of_range(literal: str) -> JsonFault:
    text = "has a number out of range" + (f": {literal}" if literal else "")
    return JsonFault(JsonFaultKind.OUT_OF_RANGE, text, literal)


def _too_deep(max_depth: int) -> JsonFault:
    return JsonFault(JsonFaultKind.TOO_DEEP, f"is nested deeper than {max_depth} levels", str(max_depth))
