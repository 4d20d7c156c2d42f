"""Identity: when two commands are the same command, and the id of an event.

A `command_id` that is a UUID as RFC 9562 writes it, in either case, is kept. Anything else is only unique within its
service, so it becomes the name-based UUID (version 5) of the id in the namespace of its service. `uuid.UUID` does not
decide which it is: it drops hyphens wherever they are, and takes braces, signs, underscores and digits of any script,
so that different ids of two services, neither of them a UUID, would become one.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from uuid import UUID, uuid5

SERVICES = UUID("6d0f3a70-4f3c-5c1e-9b1a-7a1d5c0e7e11")
"""Namespace of the namespaces: `uuid5(SERVICES, service_name)` is the namespace of a service's ids."""

KEYS = UUID("f2b1c9d4-0a55-5a0e-8f43-2f6f6b0c6a52")
"""Namespace of read-model rows: `uuid5(KEYS, "projection/key")` is a row's uuid."""

FACTS = UUID("8e1c6a5e-0b7d-5f0c-9a3e-52d1f4b7c960")
"""Namespace of the ids of facts whose fields say which fact they are: see `fact_id`."""

_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EITHER_CASE = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@lru_cache(maxsize=1024)
def _namespace(service_name: str) -> UUID:
    return uuid5(SERVICES, service_name)


def identify(command_id: str, service_name: str) -> str:
    """Return the canonical text of the UUID by which duplicates of `command_id` are found.

    Text, not an object: making and printing a `UUID` costs more than all other work with it.
    """
    if _CANONICAL.fullmatch(command_id):
        return command_id
    if _EITHER_CASE.fullmatch(command_id):
        return command_id.lower()
    return str(uuid5(_namespace(service_name), command_id))


def fact_id(command: str, values: Sequence[str]) -> str:
    """Return the id of a fact, by its command's full name and the values of the fields that name it.

    It is the UUID (version 5) in `FACTS` of a JSON array of these texts without spaces, each character as it is, as
    JavaScript's `JSON.stringify` writes it; so a client of any language makes the same one.
    """
    return str(uuid5(FACTS, json.dumps([command, *values], ensure_ascii=False, separators=(",", ":"))))


def payload_digest(name: str, facts: bytes) -> int:
    """Return what tells two payloads apart: of the command's full name and its bytes after the base fields."""
    return zlib.crc32(facts, zlib.crc32(name.encode()))


def event_id(command: str | UUID, item: int) -> str:
    """Return the id of a command's event number `item` (from 1): a replay gives the same id."""
    return f"{command}:{item}"


def chain(previous: int, event: str) -> int:
    """Return the running signed 64-bit hash over event ids: BLAKE2b-64 of the previous value and the id."""
    digest = hashlib.blake2b(
        previous.to_bytes(8, "big", signed=True) + event.encode(), digest_size=8
    ).digest()
    return int.from_bytes(digest, "big", signed=True)


def row_uuid(projection: str, key: str) -> UUID:
    """Return a read-model row's uuid: derived from its key, so that a rebuild gives it again."""
    return uuid5(KEYS, f"{projection}/{key}")


def row_id(uuid: UUID) -> int:
    """Return a read-model row's integer id: the first 63 bits of its uuid."""
    return uuid.int >> 65
