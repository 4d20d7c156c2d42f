"""Publishing and subscribing with confluent-kafka, and publishing without a registry: what the README promises."""

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.clients.outsiders import Fields, Outsider, Sending, single_object
from tests.support.servers.installation import Serving
from tidemill.runtime.resources import schemas_dir

NOON = datetime(2024, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
KEYS = 40


@pytest.fixture
def schema() -> Path:
    return schemas_dir() / "market_data" / "commands" / "RecordMarketData.avsc"


@pytest.fixture
def ticks() -> list[Fields]:
    """Commands of many keys, so that every lane gets some."""
    stem = uuid4().hex[:8].upper()
    return [tick(f"{stem}{number}", price=float(number)) for number in range(KEYS)]


def tick(symbol: str, **fields: object) -> Fields:
    base = {
        "command_id": str(uuid4()),
        "service_name": "outsider",
        "timestamp": NOON,
        "correlation_id": "c-1",
    }
    return base | {"symbol": symbol, "time": NOON, "price": 1.0, "source": "test"} | fields


def key(command: Fields) -> bytes:
    return str(command["symbol"]).encode()


def outcomes(found: Sequence[Fields]) -> set[tuple[str, str | None]]:
    return {(outcome["outcome"], outcome["code"]) for outcome in found}


def test_commands_of_confluents_own_serializer_are_applied(
    outsider: Outsider, schema: Path, ticks: list[Fields]
) -> None:
    topic = outsider.topic("commands")
    with outsider.serializer(schema, topic) as encode:
        values = [encode(command) for command in ticks]
    assert {value[0] for value in values} == {0}, "framed with a registry's id"
    places = outsider.send(
        topic, [Sending(key(each), value) for each, value in zip(ticks, values, strict=True)]
    )
    assert {place.partition for place in places} == {0, 1, 2, 3}
    found = outsider.outcomes_of(places)
    assert outcomes(found) == {("applied", None)}
    assert [each["command_id"] for each in found] == [command["command_id"] for command in ticks]
    assert {(each["success"], each["affected_rows"], each["correlation_id"]) for each in found} == {
        (True, 1, "c-1")
    }


def test_commands_in_single_object_encoding_are_applied_by_the_same_process(
    outsider: Outsider, serving: Serving, schema: Path, ticks: list[Fields]
) -> None:
    encode = single_object(schema)
    values = [encode(command) for command in ticks]
    assert {value[:2] for value in values} == {b"\xc3\x01"}
    topic = outsider.topic("commands")
    places = outsider.send(
        topic, [Sending(key(each), value) for each, value in zip(ticks, values, strict=True)]
    )
    assert outcomes(outsider.outcomes_of(places)) == {("applied", None)}
    assert serving.process.poll() is None


def test_one_command_in_both_forms_is_applied_once(outsider: Outsider, schema: Path) -> None:
    topic, once = outsider.topic("commands"), tick("BOTH" + uuid4().hex[:8].upper())
    with outsider.serializer(schema, topic) as encode:
        values = [encode(once), single_object(schema)(once)]
    places = outsider.send(topic, [Sending(key(once), value) for value in values])
    first, second = outsider.outcomes_of(places)
    assert (first["outcome"], second["outcome"], second["original"]) == ("applied", "duplicate", "applied")
    assert first["sequence"] == second["sequence"]


def test_with_librdkafkas_own_partitioner_the_outcome_names_the_setting(
    outsider: Outsider, schema: Path, ticks: list[Fields]
) -> None:
    encode = single_object(schema)
    sending = [Sending(key(command), encode(command)) for command in ticks]
    places = outsider.send(outsider.topic("commands"), sending, config={})
    refused = [each for each in outsider.outcomes_of(places) if each["outcome"] != "applied"]
    assert len(refused) > KEYS / 2, "most keys belong elsewhere"
    assert outcomes(refused) == {("rejected", "WRONG_PARTITION")}
    assert all("partitioner=murmur2_random" in each["error_message"] for each in refused)


def test_events_are_read_with_confluents_own_deserializer(outsider: Outsider, schema: Path) -> None:
    optional = {"open": None, "high": 438.18, "low": None, "volume": 1e6}
    sent = tick("SUB" + uuid4().hex[:8].upper(), price=430.47, **optional)
    [place] = outsider.send(outsider.topic("commands"), [Sending(key(sent), single_object(schema)(sent))])
    topic = outsider.topic("events")
    with outsider.deserializer(topic) as read, closing(outsider.records(topic)) as events:
        event = next(event for event in events if event.key() == key(sent))
        assert read(event) == sent
    assert event.partition() == place.partition
