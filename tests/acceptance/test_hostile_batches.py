"""Hostile batches, sent to a process that serves: it lives, and so do the other lanes.

Some become much more than they weigh; others hold hostile fields of every built-in context.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from tests.acceptance.test_all_contexts import CONSUMED, with_all_contexts
from tests.support.clients.clients import Outgoing
from tests.support.clients.crowds import crowd, record
from tests.support.clients.journeys import Deployment
from tests.support.engine.built_in import BUILT_IN, PARENTS
from tests.support.faults.besieged import (
    LANES,
    MEBIBYTE,
    besieged_installation,
    check_unharmed,
    commands_of,
    publish_good_ones,
    send_batches,
    wait_for_parked,
)
from tests.support.faults.hostile_fields import HostileCommands
from tests.support.servers.installation import Installation
from tests.support.waiting import eventually_blocking
from tidemill.domain.headers import MAX_HEADERS
from tidemill.domain.rejections import ParkingCode, RejectionCode
from tidemill_devkit.stack import Stack

Batches = Sequence[tuple[int, Sequence[bytes]]]


def many_headers() -> Batches:
    return [(1, crowd(records=16, headers=1_000_000))]


def large_records() -> Batches:
    return [(lane, [record(0, b"k", bytes(30 * MEBIBYTE))]) for lane in range(LANES)] * 2


def many_large() -> Batches:
    return [(2, [record(number, b"k", bytes(MEBIBYTE - 100)) for number in range(28)])] * 6


@pytest.fixture
def besieged(stack: Stack, database: str, unique_name: Callable[[str], str], tmp_path: Path) -> Installation:
    return besieged_installation(stack, database, unique_name("besieged"), tmp_path)


@pytest.mark.parametrize(
    "made",
    [many_headers, large_records, many_large],
    ids=["16 million headers", "30 MiB in each lane", "168 MiB in a lane"],
)
def test_what_few_bytes_become_harms_no_process_and_no_other_lane(
    besieged: Installation, made: Callable[[], Batches]
) -> None:
    batches = made()
    send_batches(besieged, commands_of(besieged), batches)
    with besieged.serving("commands") as serving:
        publish_good_ones(besieged)
        wait_for_parked(besieged, sum(len(records) for _, records in batches))
        check_unharmed(serving)


def test_the_dead_letter_of_a_million_headers_has_the_first_of_them(besieged: Installation) -> None:
    send_batches(besieged, commands_of(besieged), [(1, crowd(records=1, headers=1_000_000))])
    with besieged.serving("commands"):
        wait_for_parked(besieged, 1)
    said = besieged("tail", "market-data", "--role", "dead-letters", "--last", "9", "--no-follow", "--json")
    (letter,) = [json.loads(line) for line in said.out.splitlines()]
    assert "tm_headers_cut" in str(letter)
    shown = besieged("dead-letters", "show", "market-data/1", "1", "--json").json()
    assert len(shown["headers"]) == MAX_HEADERS + 1
    assert shown["headers"][-1]["name"] == "tm_headers_cut"
    assert bytes.fromhex(shown["headers"][-1]["value_hex"]) == b"1000000 headers of 2000000 bytes"
    assert shown["code"] == "TOO_BIG"


def test_hostile_fields_of_every_context_are_decided_by_codes_and_stop_nothing(
    deployment: Deployment, seed: int
) -> None:
    deployment = with_all_contexts(deployment)
    worker = deployment.start("all")
    for context in BUILT_IN.values():
        made = HostileCommands(context, Random(f"{seed} {context.name}"))
        hostile = made.some(40)
        sent = [record for pair in zip(hostile, made.good(len(hostile)), strict=True) for record in pair]
        topic = f"{deployment.installation.prefix}.{context.aggregate}.commands.v1"
        deployment.client.send(topic, [Outgoing(record.key, record.value) for record in sent])

    def consumed() -> bool:
        counted = deployment.installation.fetch(CONSUMED)
        return {row["aggregate"]: row["records"] for row in counted if row["records"]} == {
            context.aggregate: 80 for context in BUILT_IN.values()
        }

    eventually_blocking(consumed, what="all records to be consumed")
    deployment("audit", "--wait", "300")
    decided = deployment.installation.fetch(
        "select aggregate, code, count(*) from tm.log join tm.lane using (lane) group by 1, 2"
    )
    codes = {*RejectionCode, *ParkingCode} - {ParkingCode.CRASHED}
    known = {None, *map(str, codes), *(code for context in BUILT_IN.values() for code in context.codes)}
    assert {row["code"] for row in decided} <= known, decided
    applied = {row["aggregate"] for row in decided if row["code"] is None}
    assert applied >= {context.aggregate for name, context in BUILT_IN.items() if name not in PARENTS}
    assert worker.well()
    assert deployment.installation.fetch("select lane from tm.halt") == []
