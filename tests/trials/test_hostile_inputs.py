"""What one client may send, at full size, to a process that serves: its memory, and how long others wait for it.

The suite takes one of them; others it meets smaller, or counted: `tests/acceptance/test_hostile_batches.py`.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.besieged import (
    LANES,
    MEBIBYTE,
    check_unharmed,
    peak_rss,
    publish_good_ones,
    send_batches,
)
from tests.support.crowds import crowd, empty_records, record
from tests.support.installation import Installation, installation_on
from tests.support.waiting import eventually_blocking
from tidemill.devstack import Stack
from tidemill.domain.lane import StreamTopics

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


@dataclass(frozen=True)
class Input:
    """Batches for one lane, and how many records they are."""

    batches: Sequence[Batch]

    @property
    def records(self) -> int:
        return sum(len(batch) for batch in self.batches)


INPUTS: dict[str, Callable[[], Sequence[Batch]]] = {
    "16 records of a million headers": lambda: [crowd(records=16, headers=1_000_000)],
    "60 batches of 28 records of 1 MiB": lambda: of_records(
        60 * 28, lambda number: record(number, b"k", bytes(MEBIBYTE - 100)), a_batch=28
    ),
    "500 records with a header of 900 KiB": lambda: of_records(
        500, lambda number: record(number, b"k", None, [(b"h", bytes(900 << 10))]), a_batch=28
    ),
    "200,000 empty records": lambda: [empty_records(50_000)] * 4,
    "2,000 ids that no registry gave": lambda: [unregistered(first) for first in range(0, 2_000, 500)],
    "40,000 keys of 4 KiB": lambda: [long_keys(first) for first in range(0, 40_000, 500)],
}
SAMPLE = ["500 records with a header of 900 KiB"]

_CONSUMED = """
select coalesce(max(position), 0)::int as records
from tm.batch join tm.lane using (lane) where aggregate = 'market-data' and partition = $1
"""


@pytest.fixture
def besieged(stack: Stack, database: str, unique_name: Callable[[str], str], tmp_path: Path) -> Installation:
    installation = installation_on(stack, database, unique_name("besieged"), tmp_path, partitions=LANES)
    installation("schemas", "register")
    installation("topics", "create")
    return installation


@pytest.mark.parametrize("name", INPUTS if "TIDEMILL_HOSTILE_INPUTS" in os.environ else SAMPLE)
def test_what_one_client_sends_costs_memory_and_neighbours_little(besieged: Installation, name: str) -> None:
    hostile = Input(INPUTS[name]())
    send_batches(
        besieged,
        StreamTopics.of("market-data", prefix=besieged.prefix).commands,
        [(LANE, batch) for batch in hostile.batches],
    )

    def all_consumed() -> bool:
        [(records,)] = besieged.fetch(_CONSUMED, LANE)
        return bool(records >= hostile.records)

    began = time.monotonic()
    with besieged.serving("commands") as serving:
        well = time.monotonic() - began
        publish_good_ones(besieged)  # in all lanes: those in the hostile one come last
        answered = time.monotonic() - began
        eventually_blocking(all_consumed, WAIT_S, "all of it to be consumed")
        rss = peak_rss(serving)
        check_unharmed(serving)
    sys.stdout.write(
        f"\n{name}: well after {well:.1f} s, 200 good commands of all lanes answered after {answered:.1f} s, "
        f"at most {rss >> 20} MiB\n"
    )
