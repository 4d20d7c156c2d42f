"""Random streams of connector profile commands: few keys, few names, so that nearly everything collides.

The context's code has faults here, which the commands bring out: a rule that raises, always or depending on what was
applied before, and a key function that raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from tests.support.engine.commands import HORIZON, FakeRecord, Harness, Topic, base, uuid7
from tidemill.contexts.connector_profiles import context
from tidemill.contexts.connector_profiles.messages import (
    DeactivateConnectorProfile,
    RegisterConnectorProfile,
    UpdateConnectorProfile,
)
from tidemill.domain.messages import CommandBase
from tidemill.domain.partitioner import partition_of
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock

PARTITIONS = 4
KEYLESS = "keyless"
BREAKS: dict[str | None, Callable[[Any], bool]] = {
    '{"breaks": "always"}': lambda _: True,
    '{"breaks": "on a profile"}': lambda profile: profile is not None,
    '{"breaks": "on none"}': lambda profile: profile is None,
}
"""Data of a profile -> of which states (None: there is no profile yet) a rule raises at it."""


def _fragile(spec: Any) -> Any:
    def rule(profile: Any, command: Any) -> Any:
        if BREAKS.get(getattr(command, "profile_data", None), lambda _: False)(profile):
            raise LookupError("by design")
        return spec.rule(profile, command)

    return replace(spec, rule=rule)


def _key(command: Any) -> str:
    if command.profile_id == KEYLESS:
        raise LookupError("by design")
    return str(command.profile_id)


STREAM = Stream.of(
    replace(context, partitions=PARTITIONS, key=_key, commands=tuple(map(_fragile, context.commands)))
)
KEYS = ["p0", "p1", "p2", "p4", "p6", "p7"]
"""In lanes 0, 2, 2, 0, 1 and 3."""
NAMES = ["a", "b", "c"]
CONTENDERS = [f"c{number}" for number in range(8)]
WANTED = "wanted"

_keys = st.sampled_from(KEYS)
_names = st.sampled_from(NAMES)
_versions = st.none() | st.integers(1, 3)
_data = st.sampled_from(['{"type": "rest"}', '{"type": "file"}', '{"type": "jdbc"}', *map(str, BREAKS)])
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
        return RegisterConnectorProfile(**fields, name=draw(_names), profile_data=draw(_data))
    if kind == "deactivate":
        return DeactivateConnectorProfile(**fields, expected_version=draw(_versions))
    change: dict[str, Any] = {"name": draw(_names)} if kind == "rename" else {"profile_data": draw(_data)}
    return UpdateConnectorProfile(**fields, **change, expected_version=draw(_versions))


_WAYS = [
    *["once"] * 6,
    *("twice", "late", "reused", "stale", "wrong key", "wrong partition", "invalid", "keyless", "garbage"),
]


@st.composite
def streams(draw: st.DrawFn, *, contested: bool = True) -> list[FakeRecord]:
    """Records in the order of their arrival: many good ones, beside them everything that can be wrong with one.

    Not `contested`: no two lanes get the same id either.
    """
    topic = Topic(STREAM)
    sent: list[tuple[CommandBase, FakeRecord]] = []
    for command in draw(st.lists(commands(contested=contested), min_size=1, max_size=25)):
        way = draw(st.sampled_from(_WAYS))
        lane = None if contested else topic.lane(command)
        earlier = [each for each in sent if lane is None or each[1].partition == lane]
        before = draw(st.sampled_from(earlier)) if earlier and way in ("late", "reused") else None
        if way == "late" and before is not None:
            sent.append((before[0], topic.again(before[1])))
            continue
        id_of = before[0] if before is not None else command
        made = command.model_copy(update={"command_id": id_of.command_id})
        sent += [(made, record) for record in _sent(topic, made, way)]
    return [record for _, record in sent]


def _sent(topic: Topic, command: CommandBase, way: str) -> list[FakeRecord]:
    """Return the records that a command sent in this way makes."""
    match way:
        case "twice":
            return [topic.record(command), topic.record(command)]
        case "stale":
            old = uuid7(SystemClock().now() - HORIZON - timedelta(days=1))
            return [topic.record(command.model_copy(update={"command_id": old}))]
        case "wrong key":
            return [topic.record(command, key=b"another")]
        case "wrong partition":
            return [topic.record(command, partition=(topic.lane(command) + 1) % PARTITIONS)]
        case "invalid":
            return [topic.record(command.model_copy(update={"profile_id": ""}), **topic.place(command))]
        case "keyless":
            return [topic.record(command.model_copy(update={"profile_id": KEYLESS}), **topic.place(command))]
        case "garbage":
            return [topic.raw(topic.lane(command), None, b"garbage")]
    return [topic.record(command)]


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
            told = row.detail if row.code in ("ID_REUSE", "CRASHED") else None  # others hold times
            seen[at] = (
                *(row.outcome, row.original, row.code, told),
                *(row.position, row.sequence, row.event_type),
            )
    return seen
