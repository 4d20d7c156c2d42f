"""What the largest batch has in memory at once, counted and not measured by the machine: at most 150 MB."""

from __future__ import annotations

import tracemalloc
from datetime import timedelta

from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.commands import EPOCH, Harness, base
from tests.support.engine.streams import messages_of
from tidemill.commands.handlers import MAX_ROWS
from tidemill.contexts.time_series import context, messages, time_series
from tidemill.domain.messages import Outcome
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.codec import StreamCodec

POINTS = 10_000
"""As many as a command may have."""
MOST_MB = 150


async def test_a_batch_of_as_many_points_as_one_may_have_takes_little_memory() -> None:
    """From the records on: decoding, validation, events and rows, which the store of this test keeps as well."""
    stream = Stream.of(context)
    codec = await StreamCodec.open(stream, messages_of("time_series"), clock=SystemClock())
    harness = Harness(stream, MemoryCommandStore(stream), codec=codec)
    await harness.claim()
    series = time_series.messages.create.model_validate(
        base(time_series_id="s", time_column="date", value_columns='["open"]')
    )
    await harness.apply(harness.topic.record(series, value=await codec.encode_command(series)))
    times = [EPOCH.replace(year=2026) + timedelta(seconds=second) for second in range(POINTS)]
    points = {"columns": [0] * POINTS, "values": [1.5] * POINTS, "times": times}
    commands = [
        messages.AppendTimeSeriesPoints.model_validate(
            base() | points | {"time_series_id": "s", "column_names": ["open"]}
        )
        for _ in range(MAX_ROWS // POINTS)
    ]
    records = [
        harness.topic.record(command, value=await codec.encode_command(command)) for command in commands
    ]
    del commands
    tracemalloc.start()
    try:
        done = await harness.apply(*records)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.counts[Outcome.APPLIED] == MAX_ROWS // POINTS
    assert peak < MOST_MB * 1_000_000, f"{peak / 1e6:.0f} MB"
    assert peak > MAX_ROWS * 8, "it was counted"
