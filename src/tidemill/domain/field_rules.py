"""What the types of fields demand, in words and as JSON Schema; the other half are the declared `checks` of a message.

Documentation of drafted schemas has all of it in words. JSON Schema has keywords for ranges, lengths and patterns;
what it has none for is a sentence in the description of the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tidemill.domain.checks import DeclaredCheck

NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f]+$"

_PATTERNS: Final = {NO_CONTROLS: "No control characters."}
"""Patterns whose meaning is easier to read than they are."""


@dataclass(frozen=True)
class FieldRule:
    """A part of `Annotated[...]` that says what a validator beside it demands, since no schema can show a function.

    `words`: sentences. `keywords`: of JSON Schema, as far as it has some.
    """

    words: str
    keywords: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the keywords to those of the type."""
        return {**handler(core_schema), **self.keywords}


def type_words(info: FieldInfo) -> list[str]:
    """Return what the type of a field demands, in sentences."""
    return list(dict.fromkeys(_words(info.annotation, info.metadata)))


def describe(
    properties: Mapping[str, dict[str, Any]], fields: Mapping[str, FieldInfo], checks: Sequence[DeclaredCheck]
) -> None:
    """Add to the properties of a JSON Schema what their fields demand beside the keywords that pydantic gives."""
    for name, info in fields.items():
        schema = properties[name]
        declared = [check for check in checks if check.field == name]
        for check in declared:
            _add_keywords(schema, check.keywords)
        rules = (rule.words for rule in _rules(info.annotation, info.metadata) if isinstance(rule, FieldRule))
        words = [*rules, *(check.words for check in declared)]
        if words:
            schema["description"] = " ".join(dict.fromkeys([*filter(None, [info.description]), *words]))


def _add_keywords(schema: dict[str, Any], keywords: Mapping[str, Any]) -> None:
    """Add keywords, those of parts to the parts; what is there already is as strict, or stricter."""
    for name, value in keywords.items():
        if isinstance(value, Mapping):
            _add_keywords(schema.setdefault(name, {}), value)
        else:
            schema.setdefault(name, value)


def _rules(kind: Any, metadata: Iterable[Any]) -> Iterator[Any]:
    """Yield the rules of a type, those of its branches among them, but not those of the items of a list."""
    for rule in metadata:
        yield from _rules(None, rule.metadata) if isinstance(rule, FieldInfo) else (rule,)
    if get_origin(kind) is Annotated:
        inner, *rules = get_args(kind)
        yield from _rules(inner, rules)
    elif get_origin(kind) in (Union, UnionType):
        for branch in get_args(kind):
            yield from _rules(branch, ())


def _words(kind: Any, metadata: Iterable[Any]) -> Iterator[str]:
    bounds: dict[str, Any] = {}
    for rule in _rules(kind, metadata):
        if isinstance(rule, FieldRule):
            yield rule.words
        bounds |= {name: bound for name in _BOUNDS if (bound := getattr(rule, name, None)) is not None}
    item = _item_of(kind)
    yield from _of_length(bounds, "items" if item is not None else "characters")
    yield from _of_range(bounds)
    if (pattern := bounds.get("pattern")) is not None:
        yield _PATTERNS.get(pattern, f"Matches {pattern}.")
    if item is not None and (words := " ".join(_words(item, ()))):
        yield f"Each: {words[:1].lower()}{words[1:]}"


_BOUNDS: Final = ("min_length", "max_length", "ge", "gt", "le", "lt", "multiple_of", "pattern")
"""As pydantic and annotated_types name them."""


def _of_length(bounds: Mapping[str, Any], unit: str) -> Iterator[str]:
    low, high = bounds.get("min_length") or 0, bounds.get("max_length")
    if high is not None:
        yield f"{low:,} to {high:,} {unit}." if low else f"At most {high:,} {unit}."
    elif low:
        yield f"At least {low:,} {unit}."


def _of_range(bounds: Mapping[str, Any]) -> Iterator[str]:
    if "ge" in bounds and "le" in bounds:
        yield f"From {bounds['ge']} to {bounds['le']}."
    else:
        yield from (
            f"At {'least' if name == 'ge' else 'most'} {bounds[name]}."
            for name in ("ge", "le")
            if name in bounds
        )
    named = {"gt": "Above", "lt": "Below", "multiple_of": "A multiple of"}
    yield from (f"{words} {bounds[name]}." for name, words in named.items() if name in bounds)


def _item_of(kind: Any) -> Any:
    """Return the type of the items of a list, None for what is not one."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _item_of(arguments[0])
    if origin in (Union, UnionType):
        return next((item for branch in arguments if (item := _item_of(branch)) is not None), None)
    return arguments[0] if origin in (list, tuple) and arguments else None
