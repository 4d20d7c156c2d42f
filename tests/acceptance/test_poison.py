"""Records that nobody can read, that our client cannot unpack, and one that kills whoever touches it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.clients.clients import Outgoing, Seen
from tests.support.clients.journeys import Deployment, Worker, decoded
from tests.support.engine.kafka import KafkaWorld
from tests.support.plug_ins import fuse
from tests.support.waiting import eventually_blocking
from tidemill.domain.lane import StreamTopics
from tidemill.transport.kafka import KafkaConnection
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord

GARBAGE: dict[str, list[bytes | None]] = {
    "MALFORMED": [b"", None, b"\x00", b"garbage", b"\xc3\x01"],
    "UNKNOWN_SCHEMA": [b"\xc3\x01abcdefgh and a body", b"\x00\x00\x00\x00\x2aand a body"],
}
HEADERS = [("trace", b"\x00\xff"), ("trace", b"twice"), ("empty", b""), ("null", None)]


def as_sent(record: Outgoing, seen: Seen) -> bool:
    """Whether a dead letter is the record byte for byte, with what is wrong beside it."""
    own = [header for header in seen.all_headers if not header[0].startswith(("__connect.", "tm_"))]
    return (seen.key, seen.value, own) == (record.key, record.value, list(record.headers))


def test_garbage_first_in_its_batch_is_parked_byte_for_byte_and_the_rest_applied(
    deployment: Deployment,
) -> None:
    bad = [
        Outgoing(f"key {number}".encode() if number else None, value, 0, HEADERS)
        for number, value in enumerate(value for values in GARBAGE.values() for value in values)
    ]
    codes = [code for code, values in GARBAGE.items() for _ in values]
    places = deployment.client.send(deployment.topics.commands, bad)
    good = deployment.send(deployment.ticks(50))
    deployment.start()
    deployment.await_consumed(len(bad) + len(good))
    deployment.assert_conserved(good)

    parked = [outcome for outcome in deployment.outcomes() if outcome["outcome"] == "parked"]
    assert [outcome["code"] for outcome in parked] == codes
    letters = deployment.client.read(deployment.topics.dead_letters)
    assert len(letters) == len(bad)
    for record, (partition, offset), code, letter in zip(bad, places, codes, letters, strict=True):
        assert as_sent(record, letter)
        told = {name: letter.text(f"__connect.errors.{name}") for name in ("topic", "partition", "offset")}
        assert told == {
            "topic": deployment.topics.commands,
            "partition": str(partition),
            "offset": str(offset),
        }
        assert letter.text("__connect.errors.exception.class.name") == code
        assert letter.text("__connect.errors.exception.message")
    listed = deployment("dead-letters", "list", "--json").json()
    assert Counter(entry["code"] for entry in listed) == Counter(codes)


def test_a_header_whose_name_is_no_text_is_parked_as_it_came_and_halts_nothing(
    deployment: Deployment,
) -> None:
    """Any client may send one: it is bytes to Kafka."""
    names = [b"\xff\xfe", b"half \xed\xa0\xbd", b"nul \x00", b"a \\udcff b"]
    headers = [(name.decode(errors="surrogateescape"), b"\xff") for name in names]
    world = KafkaWorld(KafkaConnection(bootstrap=deployment.client.bootstrap), "poison", 2)
    bad = OutboundRecord(b"k", b"garbage", headers)
    asyncio.run(world.write(deployment.topics.commands, 0, bad))
    good = deployment.send(deployment.ticks(20))
    deployment.start()
    deployment.await_consumed(1 + len(good))
    deployment.assert_conserved(good)
    letters = [
        letter
        for part in (0, 1)
        for letter in asyncio.run(world.visible(deployment.topics.dead_letters, part))
    ]
    (letter,) = letters
    assert (letter.key, letter.value, letter.headers[: len(headers)]) == (b"k", b"garbage", headers)
    (entry,) = deployment("dead-letters", "list", "--json").json()
    shown = deployment("dead-letters", "show", str(entry["lane"]), str(entry["position"]), "--json").json()
    assert [each["name"].encode(errors="surrogateescape") for each in shown["headers"]] == names
    told = deployment("dead-letters", "show", str(entry["lane"]), str(entry["position"])).out
    assert "header  \\udcff\\udcfe: 0xff" in told
    assert deployment("tail", deployment.topics.commands, "--json", "--from-beginning", "--no-follow").out


def test_a_batch_that_unpacks_too_large_halts_its_lane_alone_until_it_is_skipped(
    deployment: Deployment,
) -> None:
    sent = deployment.send(deployment.ticks(10))
    connection = KafkaConnection(bootstrap=deployment.client.bootstrap)
    offset = asyncio.run(KafkaWorld(connection, "poison", 2).poison(deployment.topics.commands, 0))
    assert offset == 10
    behind = deployment.send(deployment.ticks(10))
    deployment.start()
    code, evidence = deployment.await_halt(0)
    assert code == "UNFETCHABLE"
    assert f"partition 0 at offset {offset}" in evidence
    deployment.await_consumed(10 + 20)
    assert deployment.consumed() == 30, "what stands before it, and all of the other lane"
    status = deployment("status", expect=1).out
    assert "UNFETCHABLE" in status

    deployment("lanes", "resume", "market-data/0")
    assert deployment.await_halt(0)[0] == "UNFETCHABLE", "nothing was mended, so it halts again"
    told = deployment(
        "lanes", "resume", "market-data/0", "--skip-to", str(offset + 1), "--reason", "it unpacks too large"
    )
    assert f"continues at offset {offset + 1}; it was stopped at {offset}" in told.out
    deployment.await_consumed(len(sent | behind))
    deployment.assert_conserved(sent | behind)


def survives(deployment: Deployment, worker: Worker, records: int) -> bool:
    """Whether a process lives until so many records are applied or parked."""

    def decided() -> bool:
        query = "select sum(applied + parked)::int as records from tm.batch"
        return bool(deployment.installation.fetch(query)[0]["records"] == records)

    eventually_blocking(
        lambda: worker.process.poll() is not None or decided(), what="a process to live or die"
    )
    return worker.process.poll() is None


def test_a_record_that_kills_its_process_is_parked_after_some_processes_and_the_rest_applied(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in = tmp_path / "plug-in"
    plug_in.mkdir()
    fuse.install(plug_in)
    monkeypatch.syspath_prepend(plug_in)
    deployment.installation.execute(fuse.TABLE)
    deployment("topics", "create")
    topics = StreamTopics.of(fuse.AGGREGATE, prefix=deployment.installation.prefix)
    first, second = (deployment.symbol(partition, "fuse-") for partition in (0, 1))
    deadly = fuse.light(first, fuse.DEADLY, str(uuid4()))
    good = [str(uuid4()) for _ in range(20)]
    rest = [fuse.light((first, second)[n % 2], "match", name) for n, name in enumerate(good)]
    deployment.client.send(topics.commands, [deadly, *rest])

    deaths = 0
    while not survives(deployment, deployment.launch(PYTHONPATH=str(plug_in)), records=1 + len(good)):
        deaths += 1
        assert deaths < 10, "it is never parked"
        deployment.client.bury(topics.commands)
    assert deaths == 5, "three claims without progress, then twice alone"

    # that they are decided does not say that the relay has published them
    outcomes = [decoded(seen) for seen in deployment.await_records(topics.outcomes, 1 + len(good))]
    assert Counter((outcome["outcome"], outcome["code"]) for outcome in outcomes) == {
        ("applied", None): len(good),
        ("parked", "CRASHED"): 1,
    }
    (letter,) = deployment.await_records(topics.dead_letters, 1)
    assert as_sent(deadly, letter)
    assert letter.text("__connect.errors.exception.message").startswith("the process ended 2 times")
    rows = deployment.installation.fetch("select command_id::text as id from public.fuses")
    assert Counter(row["id"] for row in rows) == Counter(good)
    assert "Everything balances" in deployment("audit", "--wait", "300").out
