"""A lane that halts is named by status, and goes on only as an operator decides."""

import json
from typing import Any

import pytest

from tests.support.clients.clients import Client
from tests.support.servers.installation import Installation, Serving
from tests.support.waiting import eventually_blocking

pytestmark = pytest.mark.slow

TIME = "2013-02-01T00:00:00Z"


def publish(installation: Installation, *prices: float) -> None:
    lines = [
        json.dumps({"symbol": "AAPL", "time": TIME, "price": price, "source": "test"}) for price in prices
    ]
    installation("publish", "RecordMarketData", "-", "--wait", stdin="\n".join(lines), expect=None)


def send(installation: Installation, *prices: float) -> None:
    lines = [
        json.dumps({"symbol": "AAPL", "time": TIME, "price": price, "source": "test"}) for price in prices
    ]
    installation("publish", "RecordMarketData", "-", stdin="\n".join(lines))


def lane_of_apple(installation: Installation) -> dict[str, Any]:
    lanes = installation("lanes", "list", "--aggregate", "market-data", "--json").json()
    (lane,) = [lane for lane in lanes if lane["next_offset"] > 0]
    return dict(lane)


def halted(installation: Installation) -> dict[str, Any]:
    lanes = eventually_blocking(
        lambda: installation("lanes", "list", "--halted", "--json").json(), what="a lane to halt"
    )
    (lane,) = lanes
    return dict(lane)


def goes_on(installation: Installation, serving: Serving, events: int) -> None:
    def quiet() -> bool:
        found = installation("status", "--json", expect=None).json()
        (stream,) = [each for each in found["streams"] if each["aggregate"] == "market-data"]
        lags = [stream["command_lag"], stream["unpublished"], *(view["lag"] for view in found["views"])]
        return not found["halts"] and stream["events"] == events and not any(lags)

    eventually_blocking(quiet, what=f"{events} events everywhere")
    assert serving.process.poll() is None


def test_a_topic_that_is_not_the_one_it_was_halts_and_is_skipped(prepared: Installation) -> None:
    with prepared.serving() as serving:
        publish(prepared, 1, 2, 3)
        assert serving.stop() == 0
    number = lane_of_apple(prepared)["lane"]
    prepared.execute(
        f"update tm.batch set anchor_checksum = 1 where lane = {number} and anchor_offset is not null"
    )
    with prepared.serving() as serving:
        lane = halted(prepared)
        assert (lane["lane"], lane["halt_code"]) == (number, "TOPIC_CHANGED")
        name = f"market-data/{lane['partition']}"
        told = prepared("status", expect=1)
        assert f"halted lane {number} ({name})" in told.out
        assert f"tidemill lanes show {name}" in told.out
        assert f"tidemill lanes resume {name} --skip-to OFFSET" in prepared("lanes", "show", name).out

        told = prepared("lanes", "resume", name, expect=2)
        assert told.err.startswith("Error: still TOPIC_CHANGED: the record consumed last")
        assert len(told.err.splitlines()) == 2
        told = prepared("lanes", "resume", name, "--skip-to", "99", "--reason", "x", expect=2)
        assert "holds offsets 0 to 2" in told.err
        told = prepared("lanes", "resume", name, "--skip-to", "3", expect=2)
        assert told.err.startswith("Error: --reason: give a reason of at most")
        assert prepared("lanes", "list", "--halted", "--json").json() != []

        send(prepared, 4)
        prepared("lanes", "resume", name, "--skip-to", "3", "--reason", "topic copied from a backup")
        goes_on(prepared, serving, events=4)
        ledger = prepared("lanes", "show", name, "--json").json()["ledger"]
        assert [entry["reason"] for entry in ledger if entry["reason"]] == [
            "skipped: topic copied from a backup",
            "created",
        ]
        assert prepared("audit", "--json").json()["balanced"] is True


def test_an_event_topic_that_is_missing_is_named_by_status_and_audit(prepared: Installation) -> None:
    with prepared.serving() as serving:
        publish(prepared, 1)
        assert serving.stop() == 0
    topic = f"{prepared.prefix}.market-data.events.v1"
    Client(prepared.environment["TIDEMILL_KAFKA_BOOTSTRAP"]).delete(topic)
    told = prepared("status", expect=1)
    assert f"Kafka has no {topic}" in told.err
    assert "tidemill topics check" in told.err
    told = prepared("audit", expect=1)
    assert topic in told.err
    assert "tidemill topics check" in told.err
    assert "check that it runs" not in told.err, "Kafka runs"
    for verb in ("rebuild", "verify"):
        assert topic in prepared("projections", verb, "daily-bars", expect=1).err


def test_a_broker_that_is_away_is_named_by_every_verb_that_needs_it(prepared: Installation) -> None:
    nobody = {"TIDEMILL_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    alone = Installation({**prepared.environment, **nobody}, prepared.folder)
    for verb in (
        ("projections", "rebuild", "daily-bars"),
        ("projections", "verify", "daily-bars"),
        ("audit",),
    ):
        told = alone(*verb, expect=1)
        assert told.err.startswith("Error: kafka is not available: ")
        assert "127.0.0.1:1" in told.err


def test_a_halt_whose_cause_is_mended_is_lifted(prepared: Installation) -> None:
    with prepared.serving() as serving:
        publish(prepared, 1)
        lane = lane_of_apple(prepared)
        prepared.execute(
            f"insert into tm.halt (lane, code, detail) values ({lane['lane']}, 'TOPIC_CHANGED', 'by hand')"
        )
        eventually_blocking(
            lambda: serving.health()[1]["services"]["market-data"]["intake"]["halted"], what="a halt"
        )
        send(prepared, 2)
        told = prepared("lanes", "resume", f"market-data/{lane['partition']}")
        assert "was halted with TOPIC_CHANGED; it continues" in told.out
        goes_on(prepared, serving, events=2)


def test_a_database_set_back_halts_and_is_reconciled(prepared: Installation) -> None:
    """As after a restore to an earlier time: the topic holds events that the database does not know."""
    with prepared.serving() as serving:
        publish(prepared, 1, 2)
        publish(prepared, 3, 4, 5)
        assert serving.stop() == 0
    lane = lane_of_apple(prepared)
    number, name = lane["lane"], f"market-data/{lane['partition']}"
    (kept,) = prepared.fetch(
        "select min(batch) as batch, min(position) as position, min(sequence) as sequence from tm.batch "
        "where lane = $1 and position > 0",
        number,
    )
    prepared.execute(
        f"delete from tm.batch where lane = {number} and batch > {kept['batch']}",
        f"delete from public.market_data where command_id in "
        f"(select command_id from tm.log where lane = {number} and position > {kept['position']})",
        f"delete from tm.log where lane = {number} and position > {kept['position']}",
        f"delete from tm.pack where lane = {number} and position > {kept['position']}",
        f"delete from tm.outbox where lane = {number} and position > {kept['position']}",
        f"update tm.published set position = {kept['position']}, sequence = {kept['sequence']}, event_id = null "
        f"where lane = {number}",
    )
    with prepared.serving() as serving:
        assert halted(prepared)["halt_code"] == "HISTORY_BEHIND"
        told = prepared("lanes", "resume", name, expect=2)
        assert told.err.startswith("Error: still HISTORY_BEHIND")
        assert "tidemill lanes reconcile" in told.err
        told = prepared("lanes", "reconcile", name, "--reason", "restored to yesterday")
        assert "continues after event 5 on timeline 2" in told.out
        lost = 5 - kept["position"]
        assert f"{lost} events of the topic are withdrawn" in told.out
        shown = prepared("status", expect=1).out
        # the read models were not set back, and have folded what was withdrawn
        for view in ("latest-quotes", "daily-bars"):
            assert f"halted {view}, lane {name}" in shown
            prepared("projections", "rebuild", view)
        goes_on(prepared, serving, events=5 + lost)
        topic = f"{prepared.prefix}.market-data.events.v1"
        records = prepared("tail", topic, "--from-beginning", "--no-follow", "--json").json_lines()
        mine = [record for record in records if record["partition"] == lane["partition"]]
        assert [record["sequence"] for record in mine] == list(range(1, 6 + lost))
        assert [record["headers"]["tm_timeline"] for record in mine] == ["1"] * 5 + ["2"] * lost
        assert {record["value"]["price"] for record in mine[5:]} <= {1.0, 2.0, 3.0, 4.0, 5.0}
        ids = [record["headers"]["ce_id"] for record in mine]
        assert ids[5:] == ids[kept["sequence"] : 5], "what is applied again has the ids it had"
        (rows,) = prepared.fetch("select count(*) as rows from public.market_data")
        assert rows["rows"] == 5
        (bars,) = prepared.fetch("select sum(ticks)::int as ticks from public.daily_bars")
        assert bars["ticks"] == 5
        assert prepared("audit", "--json").json()["balanced"] is True


def test_the_audit_names_what_was_changed_by_hand(prepared: Installation) -> None:
    with prepared.serving():
        publish(prepared, 1, 2, 3)
        assert prepared("audit", "--json").json()["balanced"] is True
        lane = lane_of_apple(prepared)
        name = f"market-data/{lane['partition']}"
        prepared.execute("delete from public.market_data where price = 2")
        prepared.execute(f"delete from tm.log where lane = {lane['lane']} and position = 2")
        prepared.execute(
            f"insert into tm.pack select * from tm.pack where lane = {lane['lane']} and first_position = 1"
        )
        prepared.execute(
            f"insert into tm.outbox select * from tm.outbox where lane = {lane['lane']} and position = 1"
        )
        result = prepared("audit", "--json", "--wait", "0", expect=1).json()
        assert result["balanced"] is False
        assert {(finding["hop"], finding["place"]) for finding in result["findings"]} == {
            ("log", name),
            ("outbox", name),
            ("rows", "public.market_data"),
        }
        told = prepared("audit", "--wait", "0", expect=1)
        assert (
            f"does not balance log, {name}: applied in generation 1 of the log: expected 3, found 2"
            in told.out
        )
