"""What is too large, a limit that is lowered behind our back, and answers to topics that nobody made."""

from __future__ import annotations

import json
from base64 import b64encode
from io import BytesIO
from random import Random
from uuid import uuid4

from fastavro import parse_schema, schemaless_writer

from tests.support.clients.clients import Outgoing
from tests.support.clients.journeys import Deployment, Tick, assert_dense, decoded
from tests.support.engine.codecs import NOON
from tests.support.engine.streams import messages_of
from tests.support.waiting import eventually_blocking
from tidemill.domain.lane import StreamTopics
from tidemill.transport.avro.wire import prefix_of_fingerprint

REGISTER = messages_of("connector_profiles")["tidemill.connector_profiles.RegisterConnectorProfile"].current
SMALL = {"TIDEMILL_TOPICS_MAX_EVENT_BYTES": "20000", "TIDEMILL_TOPICS_MAX_COMMAND_BYTES": "19000"}


def profile(key: str, filling_bytes: int = 10) -> Outgoing:
    """Return the record that registers a profile with so many bytes of data."""
    fields = {
        "command_id": str(uuid4()),
        "service_name": "journeys",
        "timestamp": NOON,
        "correlation_id": None,
    }
    # no codec makes it smaller than three quarters: what a topic takes is counted in compressed bytes
    filling = b64encode(Random(key).randbytes(filling_bytes)).decode()[:filling_bytes]
    data = json.dumps({"type": "test", "filling": filling})
    buffer = BytesIO()
    buffer.write(prefix_of_fingerprint(REGISTER.fingerprint))
    schema = parse_schema(json.loads(REGISTER.text))
    schemaless_writer(buffer, schema, fields | {"profile_id": key, "name": key, "profile_data": data})
    return Outgoing(key.encode(), buffer.getvalue())


def profiles(deployment: Deployment) -> StreamTopics:
    return StreamTopics.of("connector-profiles", prefix=deployment.installation.prefix)


def test_a_command_whose_event_would_be_too_large_is_rejected_and_the_lane_goes_on(
    deployment: Deployment,
) -> None:
    deployment.start(**SMALL)
    topics, keys = profiles(deployment), [deployment.symbol(0, "profile-"), deployment.symbol(0, "other-")]
    deployment.client.send(topics.commands, [profile(keys[0], 15_000), profile(keys[0]), profile(keys[1])])
    outcomes = [decoded(seen) for seen in deployment.await_records(topics.outcomes, 3)]
    assert [outcome["code"] for outcome in outcomes] == ["TOO_LARGE", None, None]
    assert "the event topic takes 7712: send less at once" in outcomes[0]["error_message"]
    assert [seen.key for seen in deployment.await_records(topics.events, 2)] == [key.encode() for key in keys]
    deployment.launch("projections")
    assert "Everything balances" in deployment("audit", "--wait", "300").out


def test_an_event_that_its_topic_refuses_halts_its_lane_alone_until_the_limit_is_raised(
    deployment: Deployment,
) -> None:
    topics, client = profiles(deployment), deployment.client
    first, second = ([deployment.symbol(lane, f"profile-{n}-") for n in range(5)] for lane in (0, 1))
    client.configure(topics.events, "max.message.bytes", "2500")
    records = [profile(key) for key in [*first[:2], *second]]
    records += [profile(first[2], 5_000), *(profile(key) for key in first[3:])]
    client.send(topics.commands, records)
    deployment.start()
    (found,) = eventually_blocking(
        lambda: deployment("lanes", "list", "--halted", "--json").json(), what="a lane to halt"
    )
    assert (found["halt_code"], found["partition"]) == ("EVENT_REFUSED", 0)
    assert "raise that topic's max.message.bytes, then resume the lane" in found["halt_detail"]
    assert "position 3" in found["halt_detail"]
    in_order = [[key.encode() for key in keys] for keys in (first[:2], second)]
    assert [seen.key for seen in deployment.await_records(topics.events, 7)] == in_order[0] + in_order[1]
    more = [deployment.symbol(1, "later-")]
    client.send(topics.commands, [profile(more[0])])
    assert deployment.await_records(topics.events, 8)[-1].key == more[0].encode(), "the other lane goes on"

    client.configure(topics.events, "max.message.bytes", "1048576")
    assert "EVENT_REFUSED; it continues" in deployment("lanes", "resume", "connector-profiles/0").out
    deployment.launch("projections")
    assert "Everything balances" in deployment("audit", "--wait", "300").out
    events = client.read(topics.events)
    assert_dense(events)
    assert [each.key for each in events] == [key.encode() for key in first + second + more]


def test_a_record_that_unpacks_to_more_than_the_dead_letter_topic_takes_halts_nothing(
    deployment: Deployment,
) -> None:
    """Some hundred bytes on the wire, three megabytes unpacked."""
    client, topics, key = deployment.client, deployment.topics, deployment.symbol(0).encode()
    large = Outgoing(key, b"no Avro " * 400_000, headers=[("own", b"kept")])
    client.send(topics.commands, [large], **{"compression.type": "zstd", "message.max.bytes": 10_000_000})
    sent = deployment.send(deployment.ticks(10, 0))
    deployment.start()
    deployment.await_consumed(len(sent) + 1)
    (letter,) = deployment.await_records(topics.dead_letters, 1)
    assert (letter.key, letter.value, letter.headers["own"]) == (key, None, b"kept")
    assert letter.headers["__connect.errors.exception.class.name"] == b"TOO_BIG"
    assert (letter.headers["tm_value"], letter.headers["tm_value_bytes"]) == (b"omitted", b"3200000")
    kept = deployment(*letter.text("tm_kept").split()[1:], "--json").json()
    assert bytes.fromhex(kept["value_hex"]) == large.value
    deployment.launch("projections")
    assert "Everything balances" in deployment("audit", "--wait", "300").out
    assert {each["command_id"] for each in deployment.outcomes()} - {None} == sent


def test_replies_go_where_they_may_and_hold_nobody_up_elsewhere(deployment: Deployment) -> None:
    prefix, client = deployment.installation.prefix, deployment.client
    allowed, forbidden = f"{prefix}.replies.tests", f"{prefix}.somebody.else"
    for topic in (allowed, forbidden):
        client.create(topic, 1)
    asked = [allowed, f"{prefix}.replies.missing", forbidden, deployment.topics.events, allowed]
    ticks = [Tick(deployment.symbol(0), price=float(number)) for number in range(len(asked))]
    records = [
        tick.record(
            headers=[("kafka_replyTopic", topic.encode()), ("kafka_correlationId", b"\x00\xff%d" % number)]
        )
        for number, (tick, topic) in enumerate(zip(ticks, asked, strict=True))
    ]
    client.send(deployment.topics.commands, records)
    deployment.start()
    sent = {tick.command_id for tick in ticks} | deployment.send(deployment.ticks(20))
    deployment.await_consumed(len(sent))
    replies = deployment.await_records(allowed, 2)
    assert [reply.headers["kafka_correlationId"] for reply in replies] == [b"\x00\xff0", b"\x00\xff4"]
    assert [decoded(reply)["command_id"] for reply in replies] == [ticks[0].command_id, ticks[4].command_id]
    assert client.read(forbidden) == []
    deployment.assert_conserved(sent)
