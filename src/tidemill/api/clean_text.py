"""Clean texts: types that refuse what is not clean, with its clean form, and the cleaner for those who send.

Nothing is changed on the wire: what a sender signed, hashed or compares stays what it sent.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final, get_args, get_origin

from email_validator import EmailNotValidError, validate_email
from pydantic import BaseModel, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_after_validator_function

from tidemill.domain.field_rules import FieldRule

MAX_TEXT_CHARACTERS: Final = 10_000

_SHOWN: Final = 100
_KEPT_CONTROLS: Final = "\n\t"
_DIRECTIONS: Final = re.compile("[\u202a-\u202e\u2066-\u2069\u2028\u2029]")
"""Characters that change the direction or the lines of what follows them, so that a text shows as another one."""


_PLAIN_ADDRESS: Final = re.compile("([a-z0-9]+(?:[._+-][a-z0-9]+)*)@([a-z0-9.-]{1,180})")
"""Addresses whose part before the @ every rule allows; it is never changed in lower case."""
_MAX_LOCAL_CHARACTERS: Final = 64
"""RFC 5321, 4.5.3.1.1."""


@dataclass(frozen=True)
class CleanForm:
    """Says of a text that only its clean form is accepted.

    `cleaned(text)` returns that form, or raises `ValueError` if there is none. `made`: whether `clean` makes it.
    """

    cleaned: Callable[[str], str]
    made: bool = True

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check after the type's own rules."""
        return no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, text: str) -> str:
        cleaned = self.cleaned(text)
        if cleaned != text:
            shown = cleaned if len(cleaned) <= _SHOWN else f"{cleaned[:_SHOWN]}..."
            raise ValueError(f"{_faults(text)}: send {shown!r}")
        return text


def _faults(text: str) -> str:
    """Return what is unclean, in words."""
    spaced = text != text.strip()
    composed = unicodedata.is_normalized("NFC", text)
    faults = [
        "has spaces around it" if spaced else "",
        "" if composed else "is not composed (NFC)",
        "has control characters" if any(map(_is_control, text.strip())) else "",
    ]
    return ", ".join(filter(None, faults)) or "is not in its usual form"


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" or _DIRECTIONS.match(character) is not None


def _is_plain(text: str) -> bool:
    """Tell of most texts, and at once, that they are clean: printable ASCII without spaces around it."""
    return text.isascii() and text.isprintable() and text == text.strip()


def _line(text: str) -> str:
    """Return a line without control characters; those that separate words become a space."""
    if _is_plain(text):
        return text
    spaced = re.sub(r"[\t\n\v\f\r\x85\u2028\u2029]+", " ", text)
    return _composed("".join(character for character in spaced if not _is_control(character)))


def _lines(text: str) -> str:
    """Return a text of several lines, which end with a line feed."""
    if _is_plain(text):
        return text
    lines = re.sub("\r\n?|\u2028|\u2029|\x85", "\n", text)
    return _composed(
        "".join(character for character in lines if character in _KEPT_CONTROLS or not _is_control(character))
    )


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _address(text: str) -> str:
    """Return an address in its usual form: domains in lower case. Raises `ValueError` for what is none."""
    plain = _PLAIN_ADDRESS.fullmatch(text)
    if plain and len(plain[1]) <= _MAX_LOCAL_CHARACTERS and _is_usual(plain[2]):
        return text
    try:
        return validate_email(_line(text), check_deliverability=False).normalized
    except EmailNotValidError as fault:
        raise ValueError(f"is not an e-mail address: {fault}") from None


@lru_cache(maxsize=10_000)
def _is_usual(domain: str) -> bool:
    """Tell whether a domain is one and in its usual form: asked of the library once, addresses share their domains."""
    try:
        return bool(validate_email(f"a@{domain}", check_deliverability=False).domain == domain)
    except EmailNotValidError:
        return False


_CLEAN_LINE: Final = FieldRule("No spaces around it, composed (NFC), no control characters.")

CleanLabel = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    CleanForm(_line),
    _CLEAN_LINE,
]
"""A short text of one line: no spaces around it, composed (NFC), no control characters."""

CleanKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    CleanForm(_line, made=False),
    _CLEAN_LINE,
]
"""A key that is given to something new: clean like `CleanLabel`. `clean` leaves it, since another key is another row.

What names a row that exists is a `Label`: rows whose key was not clean have to be found by it.
"""

CleanText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_TEXT_CHARACTERS),
    CleanForm(_lines),
    FieldRule("No spaces around it, composed (NFC), no control characters but line feeds and tabs."),
]
"""A text of lines, at most 10,000 characters: as `CleanLabel`, but with line feeds and tabs."""

Email = Annotated[
    str,
    StringConstraints(max_length=254),
    CleanForm(_address),
    FieldRule("An e-mail address in its usual form.", {"format": "idn-email"}),
]
"""An e-mail address in its usual form. Its domain is not looked up."""


def clean(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a message with its clean fields made clean: for those who send.

    What cannot be made clean, such as an address that is none, stays as it is, and is refused when it is validated; so
    does the key of something new, of which the sender has to know.
    """
    return {name: _cleaned(model, name, value) for name, value in values.items()}


def _cleaned(model: type[BaseModel], name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    form = _form_of(model, name)
    try:
        return value if form is None else form.cleaned(value)
    except ValueError:
        return value


@lru_cache(maxsize=10_000)
def _form_of(model: type[BaseModel], name: str) -> CleanForm | None:
    info = model.model_fields.get(name)
    forms = () if info is None else _forms([*info.metadata, info.annotation])
    return next((form for form in forms if form.made), None)


def _forms(parts: Any) -> Iterator[CleanForm]:
    for part in parts:
        if isinstance(part, CleanForm):
            yield part
        elif get_origin(part) is Annotated or get_args(part):
            yield from _forms(get_args(part))
