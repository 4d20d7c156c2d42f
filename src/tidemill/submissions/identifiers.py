"""The ids of what comes by HTTP: of commands, of the lines of a batch, and of documents that the server names.

All but that of a request without an Idempotency-Key follow from what was sent, so that a repeated request is the same
command with the same content.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.identity import identify
from tidemill.domain.request_codes import RequestCode

LINES: Final = UUID("5a3c1b62-2f0e-5d5b-9d0f-64d1c1a9b3f7")
"""Namespace of the ids of lines."""

DOCUMENTS: Final = UUID("0c7c2a54-6a39-5b7e-8a44-2c8f1f2e9d10")
"""Namespace of the keys of documents whose command has no time in its id."""

_HEADER: Final = "Idempotency-Key"
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
MAX_KEY_CHARACTERS: Final = 200
_PRINTABLE: Final = re.compile(rf"[\x20-\x7e]{{1,{MAX_KEY_CHARACTERS}}}")
_RANDOM_BYTES: Final = 10


def idempotency_key(header: str) -> str:
    """Return the key that a header has, quoted or bare: 1 to 200 printable ASCII characters.

    Raises:
        RequestRefused: `BAD_PARAMETER`.
    """
    text = header.strip()
    if text.startswith('"'):
        quoted = _QUOTED.fullmatch(text)
        text = "" if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
    if not _PRINTABLE.fullmatch(text) or not text.strip():
        detail = "it must have 1 to 200 printable ASCII characters, bare or in quotation marks"
        raise RequestRefused(
            RequestCode.BAD_PARAMETER,
            f"{_HEADER} cannot be used",
            RequestFault("header", _HEADER, detail, RequestCode.BAD_VALUE),
        )
    return text


def new_command_id(at: datetime, random: bytes) -> str:
    """Return a UUIDv7 of a time and ten random bytes."""
    return str(_version_7(int(at.timestamp() * 1000), random))


def line_id(command_id: str, service: str, number: int) -> str:
    """Return the id of a line of a batch, by the id of its request; lines count from 1."""
    return str(uuid5(LINES, f"{identify(command_id, service)}/{number}"))


def document_key(command_id: str, service: str, command: str) -> str:
    """Return the key of a document that has none, by the command that creates it and that command's name.

    It is a UUIDv7 of the same time if the command's id is one, so that keys lie in the order of their times.
    """
    identity = UUID(identify(command_id, service))
    if identity.version != 7:
        return str(uuid5(DOCUMENTS, f"{identity}/{command}"))
    digest = hashlib.sha256(f"{identity}/{command}".encode()).digest()
    return str(_version_7(identity.int >> 80, digest[:_RANDOM_BYTES]))


def _version_7(milliseconds: int, random: bytes) -> UUID:
    bits = (milliseconds << 80) | int.from_bytes(random[:_RANDOM_BYTES], "big")
    bits = (bits & ~(0xF << 76)) | (7 << 76)
    return UUID(int=(bits & ~(0b11 << 62)) | (0b10 << 62))
