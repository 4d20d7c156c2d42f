"""Random streams of connector profile commands: few keys, few names, so that nearly everything collides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tests.support.commands import FakeRecord, Harness, Topic, base
from tidemill.contexts.connector_profiles import context
from tidemill.contexts.connector_profiles.messages import (
    DeactivateConnectorProfile,
    RegisterConnectorProfile,
    UpdateConnectorProfile,
)
from tidemill.domain.messages import CommandBase
from tidemill.domain.partitioner import partition_of
from tidemill.domain.stream import Stream

PARTITIONS = 4
STREAM = Stream.of(replace(context, partitions=PARTITIONS))
KEYS = ["p0", "p1", "p2", "p4", "p6", "p7"]
"""In lanes 0, 2, 2, 0, 1 and 3."""
NAMES = ["a", "b", "c"]
CONTENDERS = [f"c{number}" for number in range(8)]
WANTED = "wanted"

_keys = st.sampled_from(KEYS)
_names = st.sampled_from(NAMES)
_versions = st.none() | st.integers(1, 3)
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def lane_service(key: str) -> str:
    """Return the service of the lane that a key belongs to: names are unique per service."""
    return f"of {partition_of(key.encode(), PARTITIONS)}"


@st.composite
def commands(draw: st.DrawFn, *, contested: bool = True) -> CommandBase:
    """One command, of one of two services; not `contested`: of its lane's own service, so that no two share a name."""
    key = draw(_keys)
    fields = base(draw(st.sampled_from(["s", "t"])) if contested else lane_service(key), profile_id=key)
    kind = draw(st.sampled_from(["register", "rename", "change", "deactivate"]))
    if kind == "register":
        return RegisterConnectorProfile(**fields, name=draw(_names), profile_data='{"type": "rest"}')
    if kind == "deactivate":
        return DeactivateConnectorProfile(**fields, expected_version=draw(_versions))
    change: dict[str, Any] = (
        {"name": draw(_names)} if kind == "rename" else {"profile_data": '{"type": "file"}'}
    )
    return UpdateConnectorProfile(**fields, **change, expected_version=draw(_versions))


@st.composite
def streams(draw: st.DrawFn, *, contested: bool = True) -> list[FakeRecord]:
    """Records in the order of their arrival, some sent twice, some unreadable."""
    topic = Topic(STREAM)
    records = []
    for command in draw(st.lists(commands(contested=contested), min_size=1, max_size=25)):
        records += [topic.record(command) for _ in range(draw(st.sampled_from([1, 1, 1, 2])))]
        if draw(st.integers(0, 9)) == 0:
            records.append(topic.raw(0, None, b"garbage"))
    return records


@st.composite
def contests(draw: st.DrawFn) -> tuple[list[FakeRecord], set[tuple[int, int]]]:
    """Records of lanes that want one name; and the (partition, offset) of those that ask for it.

    Who wants it registers under it, or under a name of its own first. Beside them lanes work that want other names.
    """
    topic = Topic(STREAM)
    records, asking = (
        [topic.record(each) for each in draw(st.lists(commands(contested=False), max_size=8))],
        set(),
    )
    keys = draw(
        st.lists(st.sampled_from(CONTENDERS), min_size=3, unique=True).filter(
            lambda keys: len(set(map(lane_service, keys))) > 1
        )
    )
    for key in keys:
        if draw(st.booleans()):
            own = RegisterConnectorProfile(**base("s", profile_id=key, name=key, profile_data="{}"))
            records.append(topic.record(own))
            asks: CommandBase = UpdateConnectorProfile(**base("s", profile_id=key, name=WANTED))
        else:
            asks = RegisterConnectorProfile(**base("s", profile_id=key, name=WANTED, profile_data="{}"))
        records.append(topic.record(asks))
        asking.add((records[-1].partition, records[-1].offset))
    return records, asking


@st.composite
def groupings(draw: st.DrawFn, records: Sequence[FakeRecord]) -> list[list[FakeRecord]]:
    """Batches in which each lane keeps its order, and any lanes share any of them."""
    lanes = {
        lane: iter(sorted((each for each in records if each.partition == lane), key=lambda each: each.offset))
        for lane in {each.partition for each in records}
    }
    turns = draw(st.permutations([each.partition for each in records]))
    return cut([next(lanes[lane]) for lane in turns], draw(sizes))


def cut(records: Sequence[FakeRecord], sizes: Sequence[int]) -> list[list[FakeRecord]]:
    """Cut records into batches of the given sizes, round and round."""
    parts, at, turn = [], 0, 0
    while at < len(records):
        size = sizes[turn % len(sizes)]
        parts.append(list(records[at : at + size]))
        at, turn = at + size, turn + 1
    return parts


async def play(harness: Harness, batches: Sequence[Sequence[FakeRecord]]) -> dict[tuple[int, int], Any]:
    """Apply batches one after another; return (partition, offset) -> outcome, code and token."""
    seen = {}
    for batch in batches:
        done = await harness.apply(*batch)
        for arrival, row in done.outcomes:
            at = (arrival.record.partition, arrival.record.offset)
            seen[at] = (row.outcome, row.original, row.code, row.position, row.sequence, row.event_type)
    return seen
