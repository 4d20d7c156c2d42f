"""Hostile payloads of every built-in context, in memory: each is decided by a code, and its neighbours are applied.

`TIDEMILL_CONTEXT_TRIALS=full` takes every payload of every command, otherwise it is a sample that follows the seed.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.any_commands import KEYS
from tests.support.engine.built_in import BUILT_IN, FULL
from tests.support.engine.commands import FakeRecord, Harness
from tests.support.engine.entity_contexts import linked
from tests.support.engine.streams import messages_of
from tests.support.faults.hostile_fields import HostileCommands, HostileRecord, lane_of
from tests.unit.commands.test_entity_cuts import ROW_KEYS, facts, parent_values, user
from tidemill.domain.context import Context
from tidemill.domain.rejections import ParkingCode, RejectionCode
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.codec import StreamCodec

SAMPLE = 300
PARENTS = {"data-analyses": "users", "tool-generations": "users"}
KNOWN = {*RejectionCode, *ParkingCode} - {ParkingCode.CRASHED}


async def harness_of(context: Context) -> tuple[MemoryCommandStore, Harness]:
    """Return the engine in memory, with the codec of a process; what the context refers to is in force."""
    parents = [BUILT_IN[PARENTS[context.aggregate]]] if context.aggregate in PARENTS else []
    streams = linked(context, *parents)
    store = MemoryCommandStore(*streams)
    for stream in streams[1:]:
        harness = Harness(stream, store, row_keys=ROW_KEYS)
        await harness.claim()
        await harness.send(*(user("Create", key, **parent_values("users", key)) for key in KEYS))
        store.tables.log[1].clear()
    codec = await StreamCodec.open(streams[0], messages_of(context.name), clock=SystemClock())
    harness = Harness(streams[0], store, codec=codec, row_keys=ROW_KEYS)
    await harness.claim()
    return store, harness


def as_records(stream: Stream, sent: list[HostileRecord]) -> list[FakeRecord]:
    ends: Counter[int] = Counter()
    made = []
    for record in sent:
        lane = lane_of(record, stream.partitions)
        made.append(FakeRecord(lane, ends[lane], record.key, record.value))
        ends[lane] += 1
    return made


@pytest.mark.timeout(3600 if FULL else 600)
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_each_is_decided_by_a_code_and_leaves_no_trace_if_it_is_refused(name: str, seed: int) -> None:
    """Among good ones in the same batches, whose outcomes and rows are those without the refused ones."""
    context = replace(BUILT_IN[name], partitions=1)  # between lanes there is no order
    made = HostileCommands(context, Random(f"{seed} {name}"))
    hostile = list(made.every()) if FULL else made.some(SAMPLE)
    good = made.good(len(hostile) // 2)
    sent = [record for pair in zip(hostile[::2], good, hostile[1::2], strict=False) for record in pair]
    decided, rows = asyncio.run(played(context, sent))
    known = {None, *map(str, KNOWN), *context.codes}
    strange = [(record.what, code) for record, code in zip(sent, decided, strict=True) if code not in known]
    assert strange == []
    in_force = [record for record, code in zip(sent, decided, strict=True) if code is None]
    assert len({record.what for record in in_force}) > 1
    assert asyncio.run(played(context, in_force)) == ([None] * len(in_force), rows)


async def played(context: Context, sent: list[HostileRecord]) -> tuple[list[str | None], Any]:
    """Apply records in batches of 50; return the code of each, and the rows."""
    store, harness = await harness_of(context)
    records = as_records(harness.stream, sent)
    for at in range(0, len(records), 50):
        await harness.apply(*records[at : at + 50])
    lanes = {claim.lane.id: claim.lane.partition for claim in harness.claims.values()}
    codes = {(lanes[row.lane], row.position): row.code for row in store.tables.log[1]}
    rows, appended, _, _ = facts(store)
    kept = {name: Counter(map(repr, held)) for name, held in appended.items()}
    return [codes[record.partition, record.offset + 1] for record in records], (rows, kept)


def test_every_kind_of_field_has_payloads_that_are_refused_and_some_that_are_not() -> None:
    """So that the test above is one of refusals, and of what is at the bounds."""
    context = BUILT_IN["system_logs"]
    every = list(HostileCommands(context, Random(1)).every())

    async def playing() -> Counter[str]:
        store, harness = await harness_of(context)
        for record in as_records(harness.stream, every):
            await harness.apply(record)
        return Counter(str(row.code) for row in store.tables.log[1])

    codes = asyncio.run(playing())
    assert {"None", "INVALID", "MALFORMED"} <= codes.keys(), codes
    assert min(codes["None"], codes["INVALID"], codes["MALFORMED"]) > 20
    fields = {record.what.partition(":")[0] for record in every}
    declared = json.loads(messages_of("system_logs")["tidemill.system_logs.RecordSystemLogs"].current.text)
    assert {f"RecordSystemLogs.{field['name']}" for field in declared["fields"]} <= fields
