"""The commands that every side works on: the same bytes, made once.

Made from the schema's file alone, by fastavro and Kafka's own hash, and by nothing of Tidemill's code: an older version
gets the same ones.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
from aiokafka.partitioner import murmur2
from fastavro.schema import fingerprint, to_parsing_canonical_form

PARTITIONS = 4
SYMBOLS = 1000
START = datetime(2026, 1, 5, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[1]
_MARKET_DATA = "market_data/commands/RecordMarketData.avsc"
_MARKER = b"\xc3\x01"

Keyed = tuple[int, bytes, bytes]
"""Partition, key, framed value."""


def market_data(count: int, seed: int, *, checkout: Path = ROOT) -> list[Keyed]:
    """Return `count` commands with random v4 ids over 1,000 symbols, 10 ms apart, as the schema of `checkout` has them.

    Framed in Avro's single-object encoding.
    """
    return encoded(_MARKET_DATA, "symbol", _commands(count, seed), checkout=checkout)


def encoded(
    schema_file: str, key_field: str, commands: Iterable[Mapping[str, Any]], *, checkout: Path = ROOT
) -> list[Keyed]:
    """Return commands as records, framed in Avro's single-object encoding. `schema_file`: below `schemas`."""
    raw = json.loads((checkout / "schemas" / schema_file).read_text())
    schema = fastavro.parse_schema(raw)
    frame = _MARKER + bytes.fromhex(fingerprint(to_parsing_canonical_form(raw), "CRC-64-AVRO"))
    made = []
    for command in commands:
        key = command[key_field].encode()
        body = BytesIO()
        fastavro.schemaless_writer(body, schema, command)
        made.append((partition_of(key), key, frame + body.getvalue()))
    return made


@cache
def partition_of(key: bytes, partitions: int = PARTITIONS) -> int:
    """Return the partition that Kafka's default partitioner chooses."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def _commands(count: int, seed: int) -> Iterator[dict[str, Any]]:
    source = random.Random(seed)
    for number in range(count):
        yield {
            **_base(source, number),
            "symbol": f"S{source.randrange(SYMBOLS):03d}",
            "time": START + timedelta(milliseconds=10 * number),
            "price": 100 + source.random(),
            "volume": source.random() * 1000,
            "source": "nyse",
        }


def _base(source: random.Random, number: int) -> dict[str, Any]:
    return {
        "command_id": str(UUID(int=source.getrandbits(128), version=4)),
        "service_name": "feed",
        "timestamp": START + timedelta(microseconds=number),
    }


ODD_SHARE = 0.09
_ID_END = len(_MARKER) + 8 + 1 + 36
"""Behind a value's frame, the length of its id, and the id, which is a UUID."""


def with_odd(commands: Sequence[Keyed], seed: int) -> list[Keyed]:
    """Return the commands with odd records among them, 9 % of all: none of these makes an event.

    Repeats, another command under an id that is taken, bytes that are no command, cut ones, records in a partition that
    is not their key's, and commands that are invalid, as many of each.
    """
    source = random.Random(f"odd {seed}")
    invalid = iter(_invalid(len(commands), seed + 1))
    mixed: list[Keyed] = []
    before: dict[
        int, Keyed
    ] = {}  # the same lane's: with lanes side by side, another's might be decided first
    for command in commands:
        mixed.append(command)
        if source.random() < ODD_SHARE / (1 - ODD_SHARE):
            mixed.append(_odd(command, before.get(command[0], command), source, next(invalid)))
        before[command[0]] = command
    return mixed


def _odd(command: Keyed, before: Keyed, source: random.Random, invalid: Keyed) -> Keyed:
    partition, key, value = command
    kinds: tuple[Keyed, ...] = (
        command,
        (partition, before[1], value[:_ID_END] + before[2][_ID_END:]),
        (partition, key, source.randbytes(80)),
        (partition, key, value[:-3]),
        ((partition + 1) % PARTITIONS, key, _renamed(value, source)),
        invalid,
    )
    return source.choice(kinds)


def _renamed(value: bytes, source: random.Random) -> bytes:
    """Return the command under an id of its own."""
    name = str(UUID(int=source.getrandbits(128), version=4)).encode()
    return value[: _ID_END - 36] + name + value[_ID_END:]


def _invalid(count: int, seed: int) -> list[Keyed]:
    commands = ({**command, "volume": -1.0} for command in _commands(count, seed))
    return encoded(_MARKET_DATA, "symbol", commands)


def client_configs(count: int, seed: int) -> tuple[list[Keyed], list[Keyed]]:
    """Return commands that create `count` client configurations, and as many that change the settings of each."""
    source, keys = random.Random(seed), [f"c{number:07d}" for number in range(count)]
    created = (
        {
            **_base(source, at),
            "client_config_id": key,
            "name": f"client {key}",
            "config_data": _settings(source),
        }
        for at, key in enumerate(keys)
    )
    creations = encoded("client_configs/commands/CreateClientConfig.avsc", "client_config_id", created)
    source.shuffle(keys)
    changed = (
        {**_base(source, at), "client_config_id": key, "config_data": _settings(source)}
        for at, key in enumerate(keys)
    )
    changes = encoded("client_configs/commands/UpdateClientConfig.avsc", "client_config_id", changed)
    return creations, changes


def users(count: int, seed: int) -> tuple[list[Keyed], list[Keyed]]:
    """Return commands that create `count` users, and as many that change the full name of each."""
    source, keys = random.Random(seed), [f"u{number:07d}" for number in range(count)]
    digest = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
    created = (
        {
            **_base(source, at),
            "user_id": key,
            "username": f"User {key}",
            "email": f"{key}@example.org",
            "hashed_password": digest,
        }
        for at, key in enumerate(keys)
    )
    creations = encoded("users/commands/CreateUser.avsc", "user_id", created)
    source.shuffle(keys)
    changed = (
        {**_base(source, at), "user_id": key, "full_name": f"Name {source.randrange(10**6)}"}
        for at, key in enumerate(keys)
    )
    return creations, encoded("users/commands/UpdateUser.avsc", "user_id", changed)


def _settings(source: random.Random) -> str:
    return json.dumps({"type": f"t{source.randrange(9)}", "theme": "dark", "rows": source.randrange(1000)})
