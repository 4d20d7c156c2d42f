"""A batch is bounded by what its records weigh, as its stream says, besides by their number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.codecs import encode
from tests.support.engine.commands import FakeRecord, base
from tests.support.engine.intakes import STREAM, World
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile
from tidemill.domain.lane import weight


@pytest.mark.parametrize(("records", "at_once"), [(0, 1), (1, 1), (3, 3), (50, 10)])
async def test_a_batch_takes_no_more_bytes_than_its_stream_allows(records: int, at_once: int) -> None:
    """`records`: as many weigh what it allows, of which ten are the most by their number."""
    profile = RegisterConnectorProfile(**base(profile_id="p00", name="name of p00", profile_data="{}"))
    size = weight(FakeRecord(0, 0, b"p00", encode(STREAM, profile)))
    world = World(replace(STREAM, batch_bytes=max(1, records * size), partitions=1))
    for number in range(30):
        world.send(f"p{number:02}")
    async with world.running():
        await world.until_logged(30)
    assert max(row.applied for row in world.store.tables.ledger) == at_once
