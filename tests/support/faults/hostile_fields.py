"""Hostile payloads of any command, from its schema, its fields' bounds and its declared checks.

Each is a command that is in order but for one field, or for one field of one of its records. Its bytes are what the
codec reads: values that Avro can carry, and bytes of another type in the place of the field's.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from random import Random
from typing import Any, NamedTuple

from fastavro import parse_schema, schemaless_writer

from tests.support.engine.any_commands import KEYS, random_commands
from tests.support.engine.streams import messages_of
from tests.support.faults.hostile import varint
from tidemill.domain.checks import AllBetween, Within
from tidemill.domain.context import Context
from tidemill.domain.messages import CommandBase, Message
from tidemill.domain.partitioner import partition_of
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.wire import prefix_of_fingerprint

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DEEP = 20_000

TEXTS = (
    "", " ", "a ", "\ta\n", "\x00", "a\x00b", "\x01\x1b[2J", "\x7f\x85", "\u200b", "\u202ea", "\ufeffa", "\uffff",
    "e\u0301", "\u212b", "\ufb01", "\U0001f600" * 20, "\u0130", "'; drop table users; --", "%s {0} \\", "NaN",
    "x" * 70_000, "\U0001f600" * 30_000, "null", "[]", "{}", "1", '"a"', '{"a": 1, "a": 2}', '{"a": NaN}',
    '{"a": Infinity}', '{"a": 1e400}', '{"a": -0}', '{"": {}}', '{"a": "\\u0000"}', '{"a": "\\ud800"}', '{"a": "\x01"}',
    '{"a": ' + "9" * 5_000 + "}", '{"a": 0.' + "1" * 5_000 + "}", '{"a": 1e-400}', "{" * 50, '{"a": 1} x',
    "[" * DEEP + "]" * DEEP, '{"a":' * 5_000 + "1" + "}" * 5_000, json.dumps({f"k{at}": at for at in range(5_000)}),
    '{"type": "x", "a": "' + "y" * 60_000 + '"}', "a@b", "a@b@c", '"a b"@example.org', "a" * 300 + "@example.org",
    "A@EXAMPLE.ORG", "$argon2id$v=19$m=1,t=1,p=1$$", "$argon2id$v=19$m=4294967295,t=9,p=9$c2FsdHNhbHQ$aGFzaGhhc2g",
    "G" * 64, "0" * 63, "0" * 65, "2026-01-01", "../../etc/passwd", "http://[", "\n", "tms1:1:AAAA",
)  # fmt: skip
LONGS = (0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63), 10_000, 10_001)
DOUBLES = (
    math.nan,
    math.inf,
    -math.inf,
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    1.7976931348623157e308,
    -1.7976931348623157e308,
    0.1,
)
TIMES = (0, 1, -1, 2**62, -(2**62), 2**63 - 1, -(2**63), 253_402_300_799_999_999, 253_402_300_800_000_000,
         -62_135_596_800_000_000, -62_135_596_800_000_001, -210_866_803_200_000_000)  # fmt: skip
"""Microseconds since 1970; among them the first and last of Python's, and what lies beyond."""

GARBAGE = (
    b"", b"\x00", b"\x01", b"\x02", b"\xff" * 11, varint(2**62), varint(-1), varint(2) + b"\xff\xfe", varint(9),
    varint(3) + b"\xed\xa0\x80", struct.pack("<d", math.nan), varint(1_000_000), varint(-(2**63)) + varint(4),
    varint(1) + b"\x00" * 5_000, varint(40) + b"ab",
)  # fmt: skip
"""Bytes of another type than the field's, or of none."""


class HostileRecord(NamedTuple):
    """A record: `what` names the command, the field and the value."""

    what: str
    key: bytes
    value: bytes


class Fault(NamedTuple):
    """What is wrong with a command: the value of a field, or its bytes."""

    model: type[Message]
    field: str
    value: Any
    raw: bytes | None


class HostileCommands:
    """Makes hostile records of a built-in context, the same of one seed, and good ones to stand among them."""

    def __init__(self, context: Context, source: Random, keys: Sequence[str] = KEYS) -> None:
        self._context = context
        self._source = source
        self._commands = random_commands(context, source, keys)
        self._schemas = {
            spec.model: messages_of(context.name)[context.full_name(spec.model)].current
            for spec in context.commands
        }

    def good(self, count: int) -> list[HostileRecord]:
        """Return commands that are in order."""
        return [self._record(command, "in order", {}) for command in islice(self._commands, count)]

    def every(self) -> Iterator[HostileRecord]:
        """Yield every hostile record of every command, each with another command id."""
        return map(self._made, self._faults())

    def some(self, count: int) -> list[HostileRecord]:
        """Return a sample of them."""
        faults = list(self._faults())
        return list(map(self._made, self._source.sample(faults, min(count, len(faults)))))

    def _faults(self) -> Iterator[Fault]:
        for spec in self._context.commands:
            for field in self._document(spec.model)["fields"]:
                name = field["name"]
                for value in _values(self._context, spec.model, name, field["type"]):
                    yield Fault(spec.model, name, value, None)
                for raw in GARBAGE:
                    yield Fault(spec.model, name, None, raw)

    def _made(self, fault: Fault) -> HostileRecord:
        command = next(each for each in self._commands if isinstance(each, fault.model))
        if fault.raw is None:
            what = f"{fault.field}: {shortened(fault.value)}"
            return self._record(command, what, {fault.field: fault.value})
        what = f"{fault.field}: bytes {shortened(fault.raw)}"
        return self._record(command, what, {}, {fault.field: fault.raw})

    def _record(
        self,
        command: CommandBase,
        what: str,
        values: dict[str, Any],
        raw: dict[str, bytes] | None = None,
    ) -> HostileRecord:
        model, fields = type(command), command.model_dump()
        whole = fields | {name: plain(value) for name, value in values.items()}
        replaced = raw or {}
        body = b"".join(
            replaced[field["name"]]
            if field["name"] in replaced
            else _encoded(json.dumps(field), whole[field["name"]])
            for field in self._document(model)["fields"]
        )
        changed = command.model_copy(update=values)
        value = prefix_of_fingerprint(self._schemas[model].fingerprint) + body
        return HostileRecord(f"{model.__name__}.{what}", _key(self._context, changed, command), value)

    def _document(self, model: type[Any]) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self._schemas[model].text)
        return document


def lane_of(record: HostileRecord, partitions: int) -> int:
    """Return the partition where a record belongs."""
    return partition_of(record.key, partitions)


def shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:50]}... ({len(text)} characters)"


class Micros(int):
    """A time as Avro has it, which may be none of Python's."""


def plain(value: Any) -> Any:
    """Return a value as the writer takes it."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, datetime):
        return Micros((value - EPOCH) // MICROSECOND)
    return value


def _key(context: Context, changed: CommandBase, command: CommandBase) -> bytes:
    """Return the key that a producer would give it; a key that no record can have is that of the good command."""
    try:
        key = context.key(changed).encode()
    except Exception:  # noqa: BLE001  the field may be of any type
        return context.key(command).encode()
    return key if 0 < len(key) < 4_000 else context.key(command).encode()


@cache
def _parsed(field: str) -> Any:
    return parse_schema({"type": "record", "name": "Alone", "fields": [_without_times(json.loads(field))]})


def _without_times(schema: Any) -> Any:
    """Return a schema whose times are plain numbers: so any of them can be written."""
    if isinstance(schema, list):
        return [_without_times(each) for each in schema]
    if isinstance(schema, dict):
        return {name: _without_times(each) for name, each in schema.items() if name != "logicalType"}
    return schema


def _encoded(field: str, value: Any) -> bytes:
    buffer = io.BytesIO()
    schemaless_writer(buffer, _parsed(field), {json.loads(field)["name"]: plain(value)})
    return buffer.getvalue()


# --- values ----------------------------------------------------------------------------------------------------------


def _values(context: Context, model: type[Message], name: str, kind: Any) -> list[Any]:
    """Return what a field may be given that its type takes: odd values, and those at its bounds."""
    declared = model.model_json_schema().get("properties", {}).get(name, {})
    return [*_of_type(context, model, name, kind, _bounds(declared)), *_at_checks(model, name)]


def _bounds(declared: dict[str, Any]) -> dict[str, Any]:
    merged = dict(declared)
    for option in declared.get("anyOf", ()):
        merged |= option
    return merged


def _of_type(
    context: Context, model: type[Message], name: str, kind: Any, bounds: dict[str, Any]
) -> list[Any]:
    if isinstance(kind, list):
        (present,) = [each for each in kind if each != "null"]
        return [None, *_of_type(context, model, name, present, bounds)]
    if isinstance(kind, dict) and kind.get("logicalType"):
        return [Micros(value) for value in TIMES]
    if isinstance(kind, dict) and kind["type"] == "array":
        return _arrays(context, model, name, kind["items"], bounds)
    simple: dict[str, Callable[[dict[str, Any]], list[Any]]] = {
        "string": _texts,
        "long": _longs,
        "int": _longs,
        "double": _doubles,
        "boolean": lambda _: [False, True],
    }
    return simple[kind if isinstance(kind, str) else kind["type"]](bounds)


def _texts(bounds: dict[str, Any]) -> list[Any]:
    lengths = {
        length + off
        for length in (bounds.get("minLength"), bounds.get("maxLength"))
        if length is not None
        for off in (-1, 0, 1)
    }
    return [*TEXTS, *("x" * length for length in sorted(lengths) if length > 0)]


def _longs(bounds: dict[str, Any]) -> list[Any]:
    edges = [int(bounds[name]) for name in ("minimum", "maximum", "exclusiveMinimum") if name in bounds]
    beside = {edge + off for edge in edges for off in (-1, 0, 1)}
    return sorted({*LONGS, *(value for value in beside if -(2**63) <= value < 2**63)})


def _doubles(bounds: dict[str, Any]) -> list[Any]:
    edges = [float(bounds[name]) for name in ("minimum", "maximum", "exclusiveMinimum") if name in bounds]
    beside = [
        each
        for edge in edges
        for each in (edge, math.nextafter(edge, -math.inf), math.nextafter(edge, math.inf))
    ]
    return [*DOUBLES, *beside]


def _arrays(
    context: Context, model: type[Message], name: str, item: Any, bounds: dict[str, Any]
) -> list[Any]:
    made: list[Any] = [[]]
    if isinstance(item, dict) and item["type"] == "record":
        good = _good_item(context, model, name)
        made += [[good] * count for count in _sizes(bounds)]
        record = _item_model(model, name)
        for field in item["fields"]:
            odd = _values(context, record, field["name"], field["type"])
            made += [[good, good | {field["name"]: value}, good] for value in odd]
        return made
    items = _of_type(context, model, name, item, _bounds(bounds.get("items", {})))
    made += [[value] for value in items] + [items[:3], [items[0]] * 2]
    return made + [[items[-1]] * count for count in _sizes(bounds)]


def _sizes(bounds: dict[str, Any]) -> list[int]:
    edges = [bounds[name] for name in ("minItems", "maxItems") if name in bounds]
    return sorted({edge + off for edge in edges for off in (-1, 0, 1) if edge + off > 0})


@cache
def _good_items(context_name: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {}


def _good_item(context: Context, model: type[Message], name: str) -> dict[str, Any]:
    known = _good_items(context.name)
    if (model.__name__, name) not in known:
        commands = random_commands(context, Random(1), KEYS)
        command = next(each for each in commands if isinstance(each, model) and getattr(each, name))
        known[model.__name__, name] = command.model_dump()[name][0]
    return known[model.__name__, name]


def _item_model(model: type[Message], name: str) -> type[Message]:
    (item,) = model.model_fields[name].annotation.__args__  # type: ignore[union-attr]
    assert isinstance(item, type)
    assert issubclass(item, Message)
    return item


def _at_checks(model: type[Message], name: str) -> Iterator[Any]:
    """Yield times at the edges of declared checks: a microsecond before, there, and behind."""
    for check in getattr(model, "checks", ()):
        if check.field != name:
            continue
        if isinstance(check, Within):
            now = SystemClock().now()
            edges = [
                check.since,
                now + check.ahead - timedelta(minutes=1),
                now + check.ahead + timedelta(hours=1),
            ]
            yield from (edge + off * MICROSECOND for edge in edges for off in (-1, 0, 1))
        elif isinstance(check, AllBetween):
            edges = [check.first, check.end]
            yield from ([edge + off * MICROSECOND] for edge in edges for off in (-1, 0, 1))
