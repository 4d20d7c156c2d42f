"""A lane that waits for a newer version is told of everywhere, keeps its process well, and can be ended by hand."""

from __future__ import annotations

import asyncio
import urllib.request
from contextlib import suppress

import pytest

from tests.support.clients.clients import Client, Outgoing
from tests.support.engine.codecs import MARKET, RECORD, TICK, body
from tests.support.engine.schema_versions import with_fields
from tests.support.servers.installation import Installation, Serving
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.catalog.registration import subject_of
from tidemill.catalog.schemas import Schema
from tidemill.transport.avro.wire import prefix_of_id
from tidemill.transport.registry import ConfluentRegistry

VENUE = {"name": "venue", "type": ["null", "string"], "default": None, "doc": "."}


async def register(url: str, topic: str, schema: Schema) -> int:
    registry = ConfluentRegistry(url)
    try:
        return await registry.register(subject_of(topic, schema.name), schema.text)
    finally:
        with suppress(Exception):
            await registry.close()


def metrics(serving: Serving) -> list[str]:
    with urllib.request.urlopen(f"{serving.address}/metrics", timeout=HANGING_S) as answer:
        said: list[str] = answer.read().decode().splitlines()
    return [line for line in said if line.startswith("tidemill_lanes_waiting{")]


def test_a_lane_that_waits_is_told_of_and_parks_by_hand(prepared: Installation) -> None:
    url = prepared.environment.get("TIDEMILL_REGISTRY_URL")
    if not url:
        pytest.skip("needs a schema registry")
    prepared("schemas", "register")
    topic = f"{prepared.prefix}.market-data.commands.v1"
    newer = with_fields(MARKET[RECORD].current, VENUE)
    number = asyncio.run(register(url, topic, newer))
    value = prefix_of_id(number) + body(newer, TICK | {"venue": "XNAS"})
    client = Client(prepared.environment["TIDEMILL_KAFKA_BOOTSTRAP"])
    ((partition, offset), *_) = client.send(topic, [Outgoing(b"AAPL", value)] * 3)
    lane = f"market-data/{partition}"

    def status() -> list[dict[str, object]]:
        return list(prepared("status", "--json").json()["waiting"])

    with prepared.serving("commands") as serving:
        eventually_blocking(status, HANGING_S, "a lane that waits")
        (found,) = status()
        assert (found["lane"], found["offset"], found["schema"]) == (lane, offset, str(number))
        assert (found["type"], found["service"]) == (RECORD, TICK["service_name"])
        assert "venue" in str(found["detail"])
        code, health = serving.health()
        (shown,) = health["services"]["market-data"]["intake"]["waiting"]["first"]
        assert (code, shown["lane"], shown["schema"], shown["service"]) == (200, lane, str(number), "quotes")
        (line,) = metrics(serving)
        assert f'schema="{number}",service="quotes"' in line
        said = prepared("status").out
        assert f"waiting lane {lane}" in said
        assert f"tidemill lanes resume {lane} --park --reason TEXT" in said
        assert "parked at" in prepared("lanes", "show", lane).out
        assert "waiting" in prepared("lanes", "list", "--aggregate", "market-data").out

        assert "--reason" in prepared("lanes", "resume", lane, "--park", expect=2).err
        assert "--park" in prepared("lanes", "resume", lane, expect=2).err
        told = prepared("lanes", "resume", lane, "--park", "--skip-to", "1", "--reason", "x", expect=2)
        assert "choose one" in told.err
        prepared("lanes", "resume", lane, "--park", "--reason", "nobody will know it")
        eventually_blocking(
            lambda: len(prepared("dead-letters", "list", "--json").json()) == 3, HANGING_S, "3 dead letters"
        )
        assert status() == []
        assert "nothing to park" in prepared("lanes", "resume", lane, "--park", "--reason", "x", expect=2).err
        eventually_blocking(lambda: metrics(serving) == [], HANGING_S, "its metric to go")
    letters = prepared("dead-letters", "list", "--json").json()
    assert {letter["code"] for letter in letters} == {"NEWER_SCHEMA"}
    (first,) = [letter for letter in letters if letter["record_offset"] == offset]
    assert first["detail"].endswith("parked by hand: nobody will know it")
    ledger = prepared("lanes", "show", lane, "--json").json()["ledger"]
    assert f"parked, offset {offset} of schema {number}: nobody will know it" in [
        entry["reason"] for entry in ledger
    ]
    assert prepared("audit", "--json", expect=None).json()["balanced"] is True
