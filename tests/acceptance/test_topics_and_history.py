"""Clients that partition differently, topics that are not what they were, a database from a backup."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from tests.support.archive.restores import backup
from tests.support.clients.clients import Outgoing
from tests.support.clients.crowds import record
from tests.support.clients.journeys import Deployment, assert_dense
from tests.support.faults.besieged import MEBIBYTE, send_batches
from tests.support.waiting import eventually_blocking
from tidemill.domain.partitioner import partition_of

HALTED = "select aggregate || '/' || partition from tm.halt join tm.lane using (lane) order by 1"


def reasons(deployment: Deployment, lane: str) -> list[str]:
    """Return what operators have written into a lane's ledger, oldest first."""
    ledger = deployment("lanes", "show", lane, "--entries", "100", "--json").json()["ledger"]
    return [entry["reason"] for entry in reversed(ledger) if entry["reason"]]


@pytest.mark.parametrize("partitions", [4])
def test_a_client_with_another_partitioner_is_told_the_setting(deployment: Deployment) -> None:
    worker = deployment.launch()
    ticks = [deployment.next_tick(number) for number in range(60)]
    records = [record for _, record in ticks]
    places = deployment.client.send(deployment.topics.commands, records, partitioner="consistent_random")
    misplaced = {
        name
        for (name, record), (partition, _) in zip(ticks, places, strict=True)
        if partition != partition_of(record.key or b"", deployment.partitions)
    }
    assert 0 < len(misplaced) < len(ticks)
    worker.await_well()
    deployment.await_consumed(len(ticks))
    again = [deployment.next_tick(number) for number in range(60)]
    deployment.client.send(deployment.topics.commands, [record for _, record in again])
    deployment.await_consumed(2 * len(ticks))

    deployment.assert_conserved({name for name, _ in ticks + again})
    outcomes = deployment.outcomes()
    refused = [outcome for outcome in outcomes if outcome["code"] == "WRONG_PARTITION"]
    assert {outcome["command_id"] for outcome in refused} == misplaced
    assert all("partitioner=murmur2_random" in outcome["error_message"] for outcome in refused)
    assert Counter(outcome["outcome"] for outcome in outcomes) == {
        "applied": len(ticks + again) - len(misplaced),
        "rejected": len(misplaced),
    }


@pytest.mark.parametrize("running", [False, True], ids=["while nobody served", "under a running process"])
def test_a_topic_that_was_re_created_halts_until_somebody_decides(
    deployment: Deployment, running: bool
) -> None:
    worker = deployment.start()
    sent = deployment.send(deployment.ticks(20))
    deployment.await_consumed(len(sent))
    if not running:
        assert worker.stop() == 0
    deployment.client.create_again(deployment.topics.commands, deployment.partitions)
    few, many = deployment.ticks(5, 0), deployment.ticks(30, 1)
    new = deployment.send(few + many)
    if running:
        eventually_blocking(
            lambda: worker.intake()["lanes"] == 0, what="the process to let go of the old topic"
        )
        assert worker.stop() == 0
    assert deployment.consumed() == len(sent), "nothing of the new topic was taken for the old one's"

    deployment.start()
    assert deployment.await_halt(0)[0] == "OFFSET_AHEAD"
    # a process that runs may look at the new topic before anything stands in it
    assert deployment.await_halt(1)[0] in {"TOPIC_CHANGED"} | ({"OFFSET_AHEAD"} if running else set())
    for lane, code in (("market-data/0", "OFFSET_AHEAD"), ("market-data/1", "TOPIC_CHANGED")):
        assert f"still {code}" in deployment("lanes", "resume", lane, expect=2).err
        deployment("lanes", "resume", lane, "--skip-to", "0", "--reason", "the topic was re-created")
        assert reasons(deployment, lane) == ["created", "skipped: the topic was re-created"]
    deployment.await_consumed(len(sent | new))
    deployment.assert_conserved(sent | new)


def test_a_restored_database_halts_and_goes_on_behind_what_subscribers_saw(deployment: Deployment) -> None:
    worker = deployment.start("all")
    kept = deployment.send(deployment.ticks(20))
    deployment.await_consumed(len(kept))
    assert "Everything balances" in deployment("audit", "--wait", "300").out
    assert worker.stop() == 0
    with backup(deployment.installation.database) as saved:
        worker = deployment.start("all")
        lost = deployment.send(deployment.ticks(7))
        deployment.await_consumed(len(kept | lost))
        assert "Everything balances" in deployment("audit", "--wait", "300").out
        assert worker.stop() == 0
        saved.restore()
    assert deployment.consumed() == len(kept)

    projector = deployment.launch("projections")  # it meets events that the database does not know, and waits
    worker = deployment.start()
    for partition in range(deployment.partitions):
        lane = f"market-data/{partition}"
        code, evidence = deployment.await_halt(partition)
        assert code == "HISTORY_BEHIND"
        assert "ends with event 27, the log with 20" in evidence
        assert (
            f"tidemill lanes reconcile {lane} --reason" in deployment("lanes", "resume", lane, expect=2).err
        )
        told = deployment("lanes", "reconcile", lane, "--reason", "restored from last night")
        assert "continues after event 27 on timeline 2" in told.out
        assert reasons(deployment, lane) == ["created", "reconciled: restored from last night"]
    late = deployment.send(deployment.ticks(3))
    # positions went on behind what was lost, so they do not tell how many records were consumed
    expected = Counter(kept | lost | late)
    eventually_blocking(lambda: deployment.rows() == expected, what="every command to be applied again")

    assert "Everything balances" in deployment("audit", "--wait", "300").out
    assert deployment.rows() == expected
    for view in ("daily-bars", "latest-quotes"):
        assert "equals its events" in deployment("projections", "verify", view).out
        deployment("projections", "rebuild", view)
        assert "equals its events" in deployment("projections", "verify", view).out
    (ticks,) = deployment.installation.fetch("select sum(ticks)::int from public.daily_bars")
    assert ticks[0] == expected.total(), "every tick is counted once, whatever came twice"
    assert projector.stop() == 0
    events = deployment.client.read(deployment.topics.events)
    assert_dense(events)
    by_timeline = {
        timeline: Counter(seen.text("ce_id") for seen in events if seen.text("tm_timeline") == timeline)
        for timeline in ("1", "2")
    }
    assert by_timeline["1"] == Counter(f"{name}:1" for name in kept | lost)
    span = f"{len(kept) // deployment.partitions + 1}-{len(kept | lost) // deployment.partitions}"
    assert {seen.text("tm_withdrawn") for seen in events if seen.text("tm_timeline") == "2"} == {span}
    assert by_timeline["2"] == Counter(f"{name}:1" for name in lost | late), "repeated, and seen to be"
    assert worker.stop() == 0


def test_a_command_topic_that_has_grown_halts_by_name(deployment: Deployment) -> None:
    """Under a running process, which sees it within half a minute; the verb refuses until the count is right again."""
    worker = deployment.start()
    sent = deployment.send(deployment.ticks(3))
    deployment.await_consumed(len(sent))
    topic, count = deployment.topics.commands, deployment.partitions
    deployment.client.grow(topic, count + 1)
    for partition in range(count):
        code, evidence = deployment.await_halt(partition)
        assert code == "PARTITIONS_CHANGED"
        assert evidence == f"{topic} has {count + 1} partitions, and {count} lanes were created for it"
    assert worker.process.poll() is None
    assert "PARTITIONS_CHANGED" in deployment("status", expect=1).out
    verb = ("lanes", "resume", "market-data/0")
    assert "still PARTITIONS_CHANGED" in deployment(*verb, expect=2).err
    skip = ("--skip-to", "0", "--reason", "made again")
    assert "still PARTITIONS_CHANGED" in deployment(*verb, *skip, expect=2).err
    assert worker.stop() == 0

    deployment.client.create_again(topic, count)
    later = deployment.send(deployment.ticks(2))
    worker = deployment.launch()
    for partition in range(count):
        # the process that has just begun may touch the lane while its topics are compared, and the verb says so
        eventually_blocking(partial(resumed, deployment, partition, *skip), what="a resumed lane")
    deployment.await_consumed(len(sent | later))
    deployment.assert_conserved(sent | later)


def resumed(deployment: Deployment, partition: int, *skip: str) -> bool:
    return deployment("lanes", "resume", f"market-data/{partition}", *skip, expect=None).code == 0


def test_what_somebody_else_writes_into_our_topics_is_left_out_and_accepted(deployment: Deployment) -> None:
    worker = deployment.start("all")
    sent = deployment.send(deployment.ticks(3, 0))
    deployment.await_consumed(len(sent))
    assert "Everything balances" in deployment("audit", "--wait", "300").out
    strange = Outgoing(b"k", b"v", 0, [("who", b"me")])
    for topic in (deployment.topics.events, deployment.topics.outcomes):
        deployment.client.send(topic, [strange])
    too_much = [record(number, b"k", bytes(MEBIBYTE)) for number in range(40)]  # 32 are unpacked of a batch
    send_batches(deployment.installation, deployment.topics.events, [(0, too_much)])
    eventually_blocking(
        lambda: "read models left out 2 records" in deployment("status", expect=None).out,
        what="the records told",
    )
    assert worker.stop() == 0
    worker = deployment.launch("all")
    code, evidence = deployment.await_halt(0)
    assert code == "FOREIGN_TAIL"
    assert "was not written by the relay" in evidence
    others = deployment.send(deployment.ticks(1, 1))
    deployment.await_consumed(len(sent | others))
    assert [name for (name,) in deployment.installation.fetch(HALTED)] == ["market-data/0"], (
        "only its own lane"
    )
    lane = "market-data/0"
    assert f"tidemill lanes resume {lane} --accept-foreign" in deployment("lanes", "show", lane).out
    assert f"resume {lane} --accept-foreign" in deployment("lanes", "resume", lane, expect=2).err
    told = deployment("lanes", "resume", lane, "--accept-foreign", "--reason", "a test of theirs")
    assert deployment.topics.events in told.out
    assert deployment.topics.outcomes in told.out
    later = deployment.send(deployment.ticks(2, 0))
    deployment.await_consumed(len(sent | others | later))
    assert "Everything balances" in deployment("audit", "--wait", "300").out
    for view in ("daily-bars", "latest-quotes"):
        assert "equals its events" in deployment("projections", "verify", view).out
    assert reasons(deployment, lane)[-1].endswith("a test of theirs")
    assert worker.stop() == 0
