"""The journal: who did what by hand or over HTTP, as entries of one hash chain for each start of a process.

A chain begins with its anchor, which names the process, and its numbers are dense from 1. The hash of an entry covers
all of its columns and the hash before it. Everything here is pure: `journal_writer` writes chains, `journal_check`
walks them.

An entry never holds a value that was sent: `payload_detail` keeps the names of fields and a digest.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

Detail = Mapping[str, str | int | bool | Sequence[str] | None]

MAX_TEXT: Final = 200
"""Characters of principal, action and collection."""

MAX_DETAIL_BYTES: Final = 2_000
"""Bytes of an entry's detail as JSON in UTF-8."""

BEFORE_ALL: Final = bytes(32)
"""The hash before the first entry of a chain."""

_FORMAT: Final = b"tidemill journal 1\0"
_LENGTH: Final = struct.Struct(">cI")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
"""One for all: `json.dumps` makes one for each value that is not written as by default, a third of an entry's time."""

_MAX_NAMES_BYTES: Final = 1_200
_MAX_NAME: Final = 40
_MAX_DIGITS: Final = 18
_MIN_TOO_LONG: Final = 10**_MAX_DIGITS
_ESCAPED_NUL: Final = "\\u0000"


class EntryKind(StrEnum):
    """What an entry says."""

    ANCHOR = "anchor"
    """A process began to write this chain; it names the process and, after a fault, the chain that it continues."""
    INTENT = "intent"
    """Something will be done, and was stored before it was begun."""
    OUTCOME = "outcome"
    """What became of an intent; `action` is the result."""
    REFUSAL = "refusal"
    """Something was asked for and refused, before it was begun."""
    CHANGE = "change"
    """Something was changed; stored with the change, or after it."""


class EntryRef(NamedTuple):
    """The place of an entry: the chain and its number there."""

    writer: UUID
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """What is to be stored. `principal`: None if nobody was authenticated. `of`: the intent of an outcome.

    `detail_text`: the detail in its canonical form.

    Raises `ValueError` for texts that are too long or that PostgreSQL does not store, and for a detail that is too
    large: whoever makes entries bounds them.
    """

    kind: EntryKind
    action: str
    principal: str | None = None
    collection: str | None = None
    command_id: UUID | None = None
    of: EntryRef | None = None
    detail: Detail = field(default_factory=dict)
    detail_text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for text in (self.principal, self.action, self.collection):
            if text is not None and (len(text) > MAX_TEXT or not is_storable(text)):
                raise ValueError(f"expected at most {MAX_TEXT} characters that PostgreSQL stores")
        detail = canonical_detail(self.detail)
        if len(detail) > MAX_DETAIL_BYTES or len(detail.encode(errors="strict")) > MAX_DETAIL_BYTES:
            raise ValueError(f"expected a detail of at most {MAX_DETAIL_BYTES} bytes")
        object.__setattr__(self, "detail_text", detail)


class JournalRow(NamedTuple):
    """A row of `tm.journal`, in the order of its columns; `detail` is JSON text. `at`: None if it is not a time."""

    writer: UUID
    number: int
    at: datetime | None
    kind: str
    principal: str | None
    action: str
    collection: str | None
    command_id: UUID | None
    of_writer: UUID | None
    of_number: int | None
    detail: str
    hash: bytes

    @property
    def ref(self) -> EntryRef:
        """Return its place."""
        return EntryRef(self.writer, self.number)


class ChainEnd(NamedTuple):
    """A point of a chain that was seen from outside: what the chain must still hold."""

    writer: UUID
    number: int
    hash: bytes

    def text(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps({"writer": str(self.writer), "number": self.number, "hash": self.hash.hex()})

    @classmethod
    def parse(cls, line: str) -> ChainEnd:
        """Read a line of JSON. Raises `ValueError` if it is not such a line."""
        try:
            value = json.loads(line)
            anchor = cls(UUID(str(value["writer"])), int(value["number"]), bytes.fromhex(str(value["hash"])))
        except (KeyError, TypeError, ValueError) as fault:
            raise ValueError("expected writer, number and hash, as --write-anchor wrote them") from fault
        if anchor.number < 1 or len(anchor.hash) != len(BEFORE_ALL):
            raise ValueError("expected a number from 1 and a hash of 32 bytes")
        return anchor


@dataclass(frozen=True, slots=True)
class WriterIdentity:
    """The process that writes: what the anchor of its chain says. `name`: such as `http`, or a verb."""

    name: str
    host: str
    pid: int
    version: str
    started_at: datetime

    def detail(self, after: ChainEnd | None) -> Detail:
        """Return the detail of an anchor. `after`: the end of the chain that this one continues, if there is one."""
        own: dict[str, str | int] = {
            "process": self.name[:MAX_TEXT],
            "host": self.host[:MAX_TEXT],
            "pid": self.pid,
            "version": self.version[:_MAX_NAME],
            "started_at": self.started_at.astimezone(UTC).isoformat(),
        }
        if after is None:
            return own
        return own | {
            "after_writer": str(after.writer),
            "after_number": after.number,
            "after_hash": after.hash.hex(),
        }


def link_of(row: JournalRow) -> ChainEnd | None:
    """Return the end of the chain that an anchor's chain continues; None if it names none that can be read."""
    try:
        value = json.loads(row.detail)
        return ChainEnd(
            UUID(str(value["after_writer"])),
            int(value["after_number"]),
            bytes.fromhex(str(value["after_hash"])),
        )
    except (KeyError, TypeError, ValueError):
        return None


def payload_detail(fields: Iterable[str], payload: bytes) -> Detail:
    """Return the detail of a write: the names of the fields that were sent and a digest of the payload, no value.

    Names are kept as long as they need at most 1,200 bytes, cut at 40 characters, and how many there are beyond.
    """
    kept, beyond = _kept_names(tuple(fields))
    detail: dict[str, Any] = {"fields": kept, "digest": hashlib.sha256(payload).hexdigest()}
    return detail | ({"more_fields": beyond} if beyond else {})


@lru_cache(maxsize=1_000)
def _kept_names(fields: tuple[str, ...]) -> tuple[list[str], int]:
    """Return what is kept of names, and how many are beyond: most requests for a command have the same."""
    kept: list[str] = []
    beyond, room = 0, _MAX_NAMES_BYTES
    for name in fields:
        cut = storable_text(name[:_MAX_NAME])
        room -= len(_dumped(cut).encode())
        if room >= 0:
            kept.append(cut)
        else:
            beyond += 1
    return kept, beyond


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL can hold a text: no NUL and no lone surrogate."""
    return (text.isascii() and "\0" not in text) or storable_text(text) == text


def storable_text(text: str) -> str:
    """Return a text with another sign in place of each that PostgreSQL does not store."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


class Chain(NamedTuple):
    """The end of a chain as far as it is stored: the next entry has the number after `number`."""

    writer: UUID
    number: int = 0
    hash: bytes = BEFORE_ALL

    def rows(self, entries: Sequence[JournalEntry], at: datetime) -> list[JournalRow]:
        """Return the rows that continue the chain. `at`: the server's time."""
        rows: list[JournalRow] = []
        before = self.hash
        for number, entry in enumerate(entries, start=self.number + 1):
            row = _row(entry, EntryRef(self.writer, number), at)
            before = _hash(before, row)
            rows.append(row._replace(hash=before))
        return rows

    def after(self, rows: Sequence[JournalRow]) -> Chain:
        """Return the chain once these rows of it are stored."""
        return Chain(self.writer, rows[-1].number, rows[-1].hash) if rows else self


def _row(entry: JournalEntry, ref: EntryRef, at: datetime) -> JournalRow:
    return JournalRow(
        writer=ref.writer,
        number=ref.number,
        at=at,
        kind=str(entry.kind),
        principal=entry.principal,
        action=entry.action,
        collection=entry.collection,
        command_id=entry.command_id,
        of_writer=entry.of.writer if entry.of else None,
        of_number=entry.of.number if entry.of else None,
        detail=entry.detail_text,
        hash=b"",
    )


def canonical_detail(detail: Detail) -> str:
    """Return the one form of a detail: keys in order, no spaces. Raises `ValueError` for a value that has none."""
    if all(map(_has_one_form, detail.values())):
        text = _dumped(detail)
        # what PostgreSQL does not store is not ASCII there, or escaped: so the texts are seldom looked at one by one
        if (text.isascii() and _ESCAPED_NUL not in text) or all(map(is_storable, _texts(detail))):
            return text
    raise ValueError("expected texts that PostgreSQL stores, and whole numbers of at most 18 digits")


def _has_one_form(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) < _MIN_TOO_LONG
    return (
        isinstance(value, str)
        or value is None
        or (isinstance(value, list | tuple) and all(map(_has_one_form, value)))
    )


def _texts(value: object) -> Iterator[str]:
    """Yield all texts of a value, names among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.items():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _canonical_text(text: str) -> str:
    """Return the canonical form of a detail as the database spells it; what no entry can hold has a form of its own."""
    try:
        return _dumped(json.loads(text, parse_float=_foreign, parse_int=_number, parse_constant=_foreign))
    except (ValueError, RecursionError):
        return _foreign(text)


def _number(text: str) -> int | str:
    return int(text) if len(text.lstrip("-")) <= _MAX_DIGITS else _foreign(text)


def _foreign(text: str) -> str:
    return f"\0{text}"  # no text of jsonb begins so


def _dumped(value: object) -> str:
    return _CANONICAL.encode(value)


def row_hash(before: bytes, row: JournalRow) -> bytes:
    """Return the SHA-256 of a row, without its own hash, after the hash of the entry before.

    The canonical bytes are the format's name, the hash before, and each column in order: `-` for null, else `+`, the
    length in four bytes and the value (a uuid's 16 bytes, a number in digits, a time in microseconds since 1970, a
    text in UTF-8, the detail with its keys in order and without spaces).
    """
    return _hash(before, row._replace(detail=_canonical_text(row.detail)))


def _hash(before: bytes, row: JournalRow) -> bytes:
    """Do it for a row whose detail is in its canonical form."""
    return hashlib.sha256(_FORMAT + before + b"".join(map(_framed, row[:-1]))).digest()


def _framed(value: object) -> bytes:
    if value is None:
        return b"-"
    data = _bytes(value)
    return _LENGTH.pack(b"+", len(data)) + data


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, datetime):
        return b"%d" % ((value - _EPOCH) // _MICROSECOND)
    return str(value).encode(errors="surrogatepass")
