"""publish, tail, query, command, status, dead-letters, audit: what a person sees of a command's life."""

import asyncio
import json
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.servers.installation import Installation
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.admin.records.outgoing import Outgoing
from tidemill.app.connections import kafka_connection
from tidemill.app.deployment import Deployment
from tidemill.catalog.topics import TopicPlan
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.lane import TopicRole
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.kafka.admin.producer import KeyedProducer
from tidemill.transport.kafka.admin.reader import TopicReader
from tidemill.transport.kafka.catalog.topics import Topics
from tidemill.transport.kafka.client.client import transactional_producer
from tidemill.transport.kafka.client.close import hard_close

TIME = "2013-02-01T00:00:00Z"


@pytest.fixture
def symbol() -> str:
    """A symbol that no other test of the module uses."""
    return "T" + uuid4().hex[:8].upper()


@pytest.fixture
def ticks(tmp_path: Path, symbol: str) -> Path:
    path = tmp_path / "ticks.jsonl"
    path.write_text("".join(tick(symbol, price=price) + "\n" for price in (10.5, 11.5, 12.5)))
    return path


def tick(symbol: str, **fields: Any) -> str:
    return json.dumps({"symbol": symbol, "time": TIME, "price": 1.0, "source": "test"} | fields)


def send_raw(installation: Installation, topic: str, *records: Outgoing) -> None:
    async def send() -> None:
        async with KeyedProducer(kafka_connection(installation.settings()), topic) as producer:
            await producer.open()
            await producer.send(records)

    asyncio.run(send())


def test_commands_are_published_and_waited_for(served: Installation, ticks: Path, symbol: str) -> None:
    told = served("publish", "RecordMarketData", ticks, "--wait", "--timeout", "300")
    assert told.out.count("  applied  ") == 3
    assert told.err == "sent 3 commands; waiting for their outcomes, 300 s at most\n"
    quiet = served("publish", "RecordMarketData", ticks, "--wait", "--json")
    assert quiet.err == ""
    answers = quiet.json_lines()
    assert [answer["outcome"] for answer in answers] == ["duplicate"] * 3, "the same file changes nothing"
    assert [answer["original"] for answer in answers] == ["applied"] * 3
    rows = served.fetch("select count(*) as rows from public.market_data where symbol = $1", symbol)
    assert rows[0]["rows"] == 3


def test_standard_input_is_a_file_too(served: Installation, symbol: str) -> None:
    told = served("publish", "tidemill.market_data.RecordMarketData", "-", "--wait", stdin=tick(symbol))
    assert "applied" in told.out


def test_a_rejection_is_shown_with_its_reason_and_fails_the_call(served: Installation, symbol: str) -> None:
    lines = tick(symbol, time="1901-01-01T00:00:00Z") + "\n" + tick(symbol)
    told = served("publish", "RecordMarketData", "-", "--wait", stdin=lines, expect=1)
    assert "line 1  rejected" in told.out
    assert "INVALID: time 1901-01-01" in told.out
    assert "line 2  applied" in told.out
    again = served("publish", "RecordMarketData", "-", "--wait", stdin=lines, expect=1)
    assert "duplicate of one that was rejected" in again.out


def test_a_wrong_key_is_rejected_with_the_right_one(served: Installation, symbol: str) -> None:
    told = served(
        "publish", "RecordMarketData", "-", "--wait", "--key", "other", stdin=tick(symbol), expect=1
    )
    assert "WRONG_KEY" in told.out
    assert symbol in told.out


def test_nothing_is_sent_if_a_line_is_wrong(served: Installation, tmp_path: Path, symbol: str) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(tick(symbol) + "\n" + tick(symbol, price="cheap") + "\n")
    told = served("publish", "RecordMarketData", path, expect=2)
    assert (
        told.err.splitlines()[0]
        == f"Error: {path}:2: price: expected a valid number, unable to parse string as a number"
    )
    assert served("publish", "RecordMarketData", tmp_path / "absent", expect=2).err.endswith(
        "No such file or directory\n"
    )
    assert served("publish", "Nonsense", path, expect=2).err.startswith("Error: 'Nonsense' names no command")
    assert served.fetch("select from public.market_data where symbol = $1", symbol) == []


def test_a_topic_is_shown_decoded(served: Installation, ticks: Path, symbol: str) -> None:
    served("publish", "RecordMarketData", ticks, "--wait")
    records = served("tail", "market-data", "--from-beginning", "--no-follow", "--json").json_lines()
    mine = [record for record in records if record["key"] == symbol]
    assert [record["value"]["price"] for record in mine] == [10.5, 11.5, 12.5]
    assert mine[0]["type"] == "tidemill.market_data.MarketDataRecorded"
    assert mine[0]["headers"]["ce_subject"] == symbol
    sequences = [record["sequence"] for record in records if record["partition"] == mine[0]["partition"]]
    assert sequences == list(range(1, len(sequences) + 1))
    for role, shown in (
        ("commands", "RecordMarketData"),
        ("outcomes", "outcome"),
        ("events", "MarketDataRecorded"),
    ):
        told = served("tail", "market_data", "--role", role, "--last", "3", "--no-follow")
        assert shown in told.out
    last = served("tail", f"{served.prefix}.market-data.events.v1", "--from-beginning", "--count", "2")
    assert len(last.out.splitlines()) == 2


def test_a_topic_that_does_not_exist_is_said(served: Installation) -> None:
    told = served("tail", "nonsense", "--no-follow", expect=2)
    assert "there is no topic nonsense: `tidemill topics check`" in told.err


def test_a_read_model_is_asked(served: Installation, ticks: Path, symbol: str) -> None:
    served("publish", "RecordMarketData", ticks, "--wait")
    rows = eventually_blocking(
        lambda: served("query", "latest-quotes", "--key", symbol, "--json").json(), what="a quote"
    )
    assert rows[0]["symbol"] == symbol
    assert rows[0]["price"] in {10.5, 11.5, 12.5}
    told = served("query", "latest-quotes", "--key", symbol)
    assert symbol in told.out
    assert "uuid" not in told.out
    assert served("query", "latest-quotes", "--key", "a", "--key", "b", expect=2).err.startswith(
        "Error: latest-quotes"
    )
    assert served("query", "nonsense", expect=2).err.startswith("Error: there is no read model 'nonsense'")
    assert (
        served("query", "latest-quotes", "--key", "nobody").err
        == "No rows. To see its progress: tidemill status\n"
    )


def test_a_command_is_found_by_its_id(served: Installation, symbol: str) -> None:
    order, service = f"order-{uuid4()}", "shop"
    line = tick(symbol, command_id=order, service_name=service, correlation_id="c-1")
    served("publish", "RecordMarketData", "-", "--wait", stdin=line)
    served("publish", "RecordMarketData", "-", "--wait", stdin=line)
    told = served("command", "show", order, "--service", service, "--repeats", "5")
    assert "applied" in told.out
    assert "MarketDataRecorded" in told.out
    assert f"symbol: {symbol}" in told.out
    assert "rows      1\n" in told.out
    (found,) = served("command", "show", order, "--service", service, "--repeats", "5", "--json").json()
    assert found["outcome"] == "applied"
    assert found["correlation"] == "c-1"
    assert found["entry"]["rows"] == 1
    assert len(found["events"]) == len(found["repeats"]) == 1
    assert served("command", "show", order, expect=2).err.endswith("add --service NAME\n")
    assert "No command" in served("command", "show", str(uuid4()), expect=1).err
    place = f"{found['entry']['aggregate']}/{found['entry']['partition']}", str(found["entry"]["position"])
    by_place = served("outbox", "show", *place, "--json").json()
    assert by_place["events"] == found["events"]
    assert (by_place["key"], by_place["record_offset"]) == (found["key"], found["record_offset"])
    repeat = found["repeats"][0]
    told = served("outbox", "show", f"{repeat['aggregate']}/{repeat['partition']}", str(repeat["position"]))
    assert "duplicate" in told.out
    assert "holds no position" in served("outbox", "show", place[0], "999999", expect=2).err


def test_status_waits_until_everything_is_served(served: Installation) -> None:
    ready = served("status", "--wait", str(HANGING_S), "--json", expect=None).json()
    assert (ready["unready"], ready["hidden"], ready["foreign_members"]) == ([], [], [])
    assert "not served" not in served("status", "--wait", "0", expect=None).err


def test_what_cannot_be_read_is_kept_and_shown(served: Installation, symbol: str) -> None:
    topic = f"{served.prefix}.market-data.commands.v1"
    garbage = b"\x1b[31mnot avro\x00"
    headers = [("trace", b"t"), ("empty", None), ("trace", b"0x00"), ("trace", b"\x00")]
    send_raw(served, topic, Outgoing(symbol.encode(), garbage, headers))
    mine = lambda: [
        letter
        for letter in served("dead-letters", "list", "--aggregate", "market-data", "--json").json()
        if letter["bytes"] == len(garbage)
    ]
    (letter,) = eventually_blocking(mine, what="the dead letter")
    assert (letter["code"], letter["state"], letter["topic"]) == ("MALFORMED", "parked", topic)
    told = served("dead-letters", "show", str(letter["lane"]), str(letter["position"]))
    assert "00000000  1b 5b 33 31 6d 6e 6f 74 20 61 76 72 6f 00        .[31mnot avro." in told.out
    assert "\x1b" not in told.out
    whole = served("dead-letters", "show", str(letter["lane"]), str(letter["position"]), "--json").json()
    assert bytes.fromhex(whole["value_hex"]) == garbage
    assert bytes.fromhex(whole["key_hex"]) == symbol.encode()
    assert whole["headers"] == [
        {"name": name, "value_hex": None if value is None else value.hex()} for name, value in headers
    ]
    listed = served("dead-letters", "list", "--code", "MALFORMED", "--limit", "1000")
    assert "MALFORMED" in listed.out
    lane, position, record = next(
        line.split()[:3] for line in listed.out.splitlines() if place_of(letter) in line
    )
    for named in ([lane, position], [record], [lane, f"{letter['position']:,}"]):
        assert served("dead-letters", "show", *named, "--json").json() == whole, (
            "it takes what the list prints"
        )
    assert served("dead-letters", "list", "--code", "NONSENSE", expect=2).err.startswith(
        "Error: there is no code"
    )
    assert served("dead-letters", "show", "1", "999999", expect=2).err.startswith(
        "Error: lane 1 parked nothing"
    )
    for wrong in (["7"], ["market-data/0"], ["market-data/0", "many"], [record, "1"], ["a b"]):
        refused = served("dead-letters", "show", *wrong, expect=2)
        assert "names no parked record: name it as `tidemill dead-letters list` does" in refused.err
    assert "was not parked" in served("dead-letters", "show", f"{topic}/0@999999", expect=2).err
    assert "lane 99 does not exist" in served("dead-letters", "show", "99", "1", expect=2).err
    found = lambda: "MALFORMED" in served("tail", topic + ".dlq", "--last", "9", "--no-follow").out
    eventually_blocking(found, what="the dead letter in its topic")


def place_of(letter: dict[str, Any]) -> str:
    return f"{letter['topic']}/{letter['partition']}@{letter['record_offset']}"


def test_status_and_audit_say_that_all_is_well(served: Installation, ticks: Path) -> None:
    served("publish", "RecordMarketData", ticks, "--wait")
    settled = lambda: _lags(served("status", "--json").json()) == {0}
    eventually_blocking(settled, what="no lag")
    told = served("status")
    assert "Read models" in told.out
    assert "halted " in told.out
    told = served("audit")
    assert told.out.endswith("Everything balances.\n")
    result = served("audit", "--json").json()
    assert result["balanced"] is True
    assert result["findings"] == []
    market = [lane for lane in result["lanes"] if lane["aggregate"] == "market-data"]
    (table,) = [table for table in result["tables"] if table["table"] == "public.market_data"]
    assert table["rows"] == sum(lane["applied"] for lane in market)
    assert "market-data/" in served("audit", "--lanes").out


def test_who_asks_for_a_reply_gets_the_outcome(served: Installation, symbol: str) -> None:
    """Request and reply as Spring for Apache Kafka has it; only topics of the allowed pattern are written to."""
    allowed, own = f"{served.prefix}.replies.test", f"{served.prefix}.market-data.events.v1"
    kafka = kafka_connection(served.settings())
    plan = TopicPlan(allowed, TopicRole.OUTCOMES, 1, 1)
    part = Deployment.of(served.settings()).catalog.of("market-data")
    line = json.loads(tick(symbol)) | {"command_id": str(uuid4()), "service_name": "asker", "timestamp": TIME}
    command = RecordMarketData.model_validate_json(json.dumps(line))

    async def ask() -> Any:
        await Topics(kafka).create([plan])
        codec = await StreamCodec.open(part.stream, part.messages(), clock=SystemClock())
        value = await codec.encode_command(command)
        async with (
            TopicReader(kafka, allowed) as reader,
            KeyedProducer(kafka, part.stream.topics.commands) as producer,
        ):
            await reader.open(last=0)
            await producer.open()
            for topic in (own, allowed):
                headers = [("kafka_replyTopic", topic.encode()), ("kafka_correlationId", b"\x00\x01")]
                await producer.send([Outgoing(symbol.encode(), value, headers)])
            async with asyncio.timeout(HANGING_S), aclosing(reader.records(follow=True)) as records:  # type: ignore[type-var]
                return await anext(records)

    reply = asyncio.run(ask())
    headers = dict(reply.headers)
    assert headers["kafka_correlationId"] == b"\x00\x01"
    assert headers["ce_type"] == b"tidemill.outcome.CommandOutcome"
    assert reply.key == symbol.encode()
    told = served(
        "tail", "market-data", "--role", "outcomes", "--last", "50", "--no-follow", "--json"
    ).json_lines()
    outcomes = [record["value"]["outcome"] for record in told if record["key"] == symbol]
    assert outcomes == ["applied", "duplicate"], (
        "who asks for a reply in a topic of ours is answered there as usual"
    )


def test_what_is_no_record_is_no_lag(served: Installation, symbol: str) -> None:
    """Every transaction of a client ends with an offset that nobody can consume."""
    topic = f"{served.prefix}.market-data.commands.v1"

    async def send() -> None:
        connection = kafka_connection(served.settings())
        producer = transactional_producer(
            connection, transactional_id=symbol, transaction_timeout_ms=10_000, batch_bytes=100_000
        )
        await producer.start()
        try:
            async with producer.transaction():
                await producer.send_and_wait(topic, b"no command", key=symbol.encode(), partition=0)
        finally:
            await hard_close(producer, 5)

    asyncio.run(send())
    settled = lambda: _lags(served("status", "--json").json()) == {0}
    eventually_blocking(settled, what="no lag")
    lane = served("lanes", "show", "market-data/0", "--json").json()["lane"]
    assert lane["position"] > 0


def _lags(status: dict[str, Any]) -> set[int]:
    lags = {stream[name] for stream in status["streams"] for name in ("command_lag", "unpublished")}
    return lags | {view["lag"] for view in status["views"]}


def test_lanes_are_listed_and_shown(served: Installation) -> None:
    lanes = served("lanes", "list", "--aggregate", "market-data", "--json").json()
    assert [lane["partition"] for lane in lanes] == [0, 1]
    assert all(lane["owner"].startswith("tidemill commands ") for lane in lanes)
    assert served("lanes", "list", "--halted", "--json").json() == []
    by_name = served("lanes", "show", "market-data/1", "--json").json()
    by_number = served("lanes", "show", str(lanes[1]["lane"]), "--json").json()
    assert by_name["lane"]["lane"] == by_number["lane"]["lane"] == lanes[1]["lane"]
    assert "Ledger, newest first" in served("lanes", "show", "market-data/1").out
    for wrong in ("market-data/9", "market-data/99999999999", "nonsense", "99999", "99"):
        assert served("lanes", "show", wrong, expect=2).err.startswith("Error: ")
    for verb in (["resume"], ["reconcile", "--reason", "x"]):
        told = served("lanes", verb[0], "market-data/1", *verb[1:], expect=2)
        assert told.err == "Error: lane market-data/1 is not halted, so there is nothing to decide\n"


def test_read_models_are_listed_verified_and_built_again(
    served: Installation, ticks: Path, symbol: str
) -> None:
    served("publish", "RecordMarketData", ticks, "--wait")
    eventually_blocking(
        lambda: served("query", "latest-quotes", "--key", symbol, "--json").json(), what="a quote"
    )
    names = [view["name"] for view in served("projections", "list", "--json").json()]
    assert {"latest-quotes", "daily-bars", "connector-directory"} <= set(names)
    assert "equals its events" in served("projections", "verify", "latest-quotes").out
    served.execute(f"update public.latest_quotes set price = price + 1 where symbol = '{symbol}'")
    told = served("projections", "verify", "latest-quotes", expect=1)
    assert "differs from its events in 1 of" in told.out
    assert f"{symbol}: price is" in told.out
    assert "replaced the old one" in served("projections", "rebuild", "latest-quotes").out
    assert served("projections", "verify", "latest-quotes", "--json").json()["differing"] == 0
    assert "rebuilt" in served("projections", "list").out


def test_a_column_that_is_made_wider_by_hand_stops_nobody(served: Installation, symbol: str) -> None:
    """Plans and COPYs that running processes have made for the column before are made anew.

    Wider than declared each time: a column that is narrower stops the stream as soon as somebody looks.
    """
    for price, column in ((10.5, "numeric"), (11.5, "double precision"), (12.5, "numeric")):
        told = served("publish", "RecordMarketData", "-", "--wait", stdin=tick(symbol, price=price))
        assert told.out.count("  applied  ") == 1
        served.execute(f"alter table public.market_data alter column price type {column}")
    rows = served.fetch("select price from public.market_data where symbol = $1 order by price", symbol)
    assert [float(row["price"]) for row in rows] == [10.5, 11.5, 12.5]


def test_a_state_that_was_changed_by_hand_is_found_and_corrected(served: Installation) -> None:
    """Also where a name went from one aggregate to another, of whatever lane."""
    first = [
        {"profile_id": f"state-{number}", "name": f"n{number}", "profile_data": "{}"} for number in range(6)
    ]
    served("publish", "RegisterConnectorProfile", "-", "--wait", stdin="\n".join(map(json.dumps, first)))
    gone = [{"profile_id": each["profile_id"]} for each in first[:3]]
    served("publish", "DeactivateConnectorProfile", "-", "--wait", stdin="\n".join(map(json.dumps, gone)))
    taken = [
        {"profile_id": f"state-{number}", "name": f"n{number - 6}", "profile_data": "{}"}
        for number in (6, 7, 8)
    ]
    served("publish", "RegisterConnectorProfile", "-", "--wait", stdin="\n".join(map(json.dumps, taken)))
    name = "connector-profiles/state"
    assert name in {view["name"] for view in served("projections", "list", "--json").json()}
    assert "equals its events" in served("projections", "verify", name).out
    served.execute("update public.connector_profiles set name = 'by hand' where id = 'state-5'")
    told = served("projections", "verify", name, expect=1)
    assert "differs from its events in 1 of" in told.out
    assert "state-5: name is by hand, its events give n5" in told.out
    served.execute("update public.connector_profiles set id = 'moved' where id = 'state-4'")
    rebuilt = served("projections", "rebuild", name)
    assert "3 of" in rebuilt.out
    assert "moved: its events do not have it: removed" in rebuilt.out
    assert "state-4: was missing: added" in rebuilt.out
    assert "state-5: name is by hand, its events give n5" in rebuilt.out
    assert "equals them" in served("projections", "rebuild", name).out
    assert served("projections", "verify", name, "--json").json()["differing"] == 0
