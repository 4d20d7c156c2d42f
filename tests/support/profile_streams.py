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
from tidemill.domain.stream import Stream

PARTITIONS = 4
STREAM = Stream.of(replace(context, partitions=PARTITIONS))
KEYS = [f"p{number}" for number in range(5)]
NAMES = ["a", "b", "c"]

_keys = st.sampled_from(KEYS)
_names = st.sampled_from(NAMES)
_versions = st.none() | st.integers(1, 3)


@st.composite
def commands(draw: st.DrawFn, *, service: str | None = None) -> CommandBase:
    """One command; `service`: None draws one of two."""
    fields = base(service or draw(st.sampled_from(["s", "t"])), profile_id=draw(_keys))
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
def streams(draw: st.DrawFn) -> list[FakeRecord]:
    """Records in the order of their arrival, some sent twice, some unreadable."""
    topic = Topic(STREAM)
    records = []
    for command in draw(st.lists(commands(), min_size=1, max_size=25)):
        records += [topic.record(command) for _ in range(draw(st.sampled_from([1, 1, 1, 2])))]
        if draw(st.integers(0, 9)) == 0:
            records.append(topic.raw(0, None, b"garbage"))
    return records


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
