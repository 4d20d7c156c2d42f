"""What one client may send, at full size, to a process that serves: its memory, and how long others wait for it.

The suite takes two of them; others it meets smaller, or counted: `tests/acceptance/test_hostile_batches.py`.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.clients.crowds import crowd, empty_records, record
from tests.support.engine.codecs import MARKET, RECORD
from tests.support.faults.besieged import (
    GOOD_SYMBOLS,
    LANES,
    MEBIBYTE,
    besieged_installation,
    check_unharmed,
    commands_of,
    peak_rss,
    publish_good_ones,
    send_batches,
)
from tests.support.servers.installation import Installation
from tests.support.waiting import eventually_blocking
from tidemill.catalog.registration import subject_of
from tidemill.domain.partitioner import partition_of
from tidemill_devkit.stack import Stack

LANE = 1
WAIT_S = 900
"""Against hanging: each takes seconds, on a slow machine a minute or two."""

Batch = Sequence[bytes]


def of_records(count: int, make: Callable[[int], bytes], *, a_batch: int) -> list[Batch]:
    """Make records, so many in a batch; each has its number in its batch."""
    return [
        [make(number) for number in range(min(a_batch, count - first))] for first in range(0, count, a_batch)
    ]


def unregistered(first: int) -> Batch:
    """Records of ids that no registry gave."""
    return [
        record(number, b"k", b"\0" + struct.pack(">I", 1 << 30 | first + number) + b"x")
        for number in range(500)
    ]


def long_keys(first: int) -> Batch:
    return [record(number, f"{first + number:04096}".encode(), b"x") for number in range(500)]


def of_a_dangerous_schema(installation: Installation) -> list[Batch]:
    """Records of a schema that a client has registered: it reads like ours, and takes minutes to compute with."""
    document = json.loads(MARKET[RECORD].current.text)
    digits = {"type": "bytes", "logicalType": "decimal", "precision": 10**8}
    document["fields"].append({"name": "x", "type": digits, "default": ""})
    subject = subject_of(commands_of(installation), RECORD)
    asked = urllib.request.Request(
        f"{installation.environment['TIDEMILL_REGISTRY_URL']}/subjects/{subject}/versions",
        json.dumps({"schema": json.dumps(document)}).encode(),
        {"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(asked, timeout=WAIT_S) as answer:
        prefix = b"\0" + struct.pack(">I", json.load(answer)["id"])
    return [[record(number, b"k", prefix + b"x") for number in range(100)]]


INPUTS: dict[str, Callable[[Installation], Sequence[Batch]]] = {
    "16 records of a million headers": lambda _: [crowd(records=16, headers=1_000_000)],
    "60 batches of 28 records of 1 MiB": lambda _: of_records(
        60 * 28, lambda number: record(number, b"k", bytes(MEBIBYTE - 100)), a_batch=28
    ),
    "500 records with a header of 900 KiB": lambda _: of_records(
        500, lambda number: record(number, b"k", None, [(b"h", bytes(900 << 10))]), a_batch=28
    ),
    "200,000 empty records": lambda _: [empty_records(50_000)] * 4,
    "2,000 ids that no registry gave": lambda _: [unregistered(first) for first in range(0, 2_000, 500)],
    "a decimal of 10^8 digits": of_a_dangerous_schema,
    "40,000 keys of 4 KiB": lambda _: [long_keys(first) for first in range(0, 40_000, 500)],
}
SAMPLE = ["500 records with a header of 900 KiB", "a decimal of 10^8 digits"]

_APPLIED = """
select coalesce(sum(applied), 0)::int as records
from tm.batch join tm.lane using (lane) where aggregate = 'market-data' and partition = any($1)
"""


@pytest.fixture
def besieged(stack: Stack, database: str, unique_name: Callable[[str], str], tmp_path: Path) -> Installation:
    return besieged_installation(stack, database, unique_name("besieged"), tmp_path)


@pytest.mark.parametrize("name", INPUTS if "TIDEMILL_HOSTILE_INPUTS" in os.environ else SAMPLE)
def test_what_one_client_sends_costs_memory_and_neighbours_little(besieged: Installation, name: str) -> None:
    batches = INPUTS[name](besieged)
    send_batches(besieged, commands_of(besieged), [(LANE, batch) for batch in batches])

    def applied(partitions: set[int]) -> int:
        [(records,)] = besieged.fetch(_APPLIED, list(partitions))
        return int(records)

    others = set(range(LANES)) - {LANE}
    began = time.monotonic()
    with besieged.serving("commands") as serving:
        well = time.monotonic() - began
        publish_good_ones(besieged, wait=False)
        good = Counter(partition_of(symbol.encode(), LANES) for symbol in GOOD_SYMBOLS)
        eventually_blocking(
            lambda: applied(others) == sum(good[each] for each in others), WAIT_S, "the others"
        )
        answered = time.monotonic() - began
        eventually_blocking(lambda: applied({LANE}) == good[LANE], WAIT_S, "the lane itself, behind all that")
        done = time.monotonic() - began
        rss = peak_rss(serving)
        check_unharmed(serving)
    sys.stdout.write(
        f"\n{name}: well after {well:.1f} s, commands of other lanes applied after {answered:.1f} s, those behind it "
        f"in its own after {done:.1f} s, at most {rss >> 20} MiB\n"
    )
