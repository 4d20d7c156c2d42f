"""Rejections and parked records are counted by their codes."""

from __future__ import annotations

from tests.fakes.codecs import encode
from tests.support.engine.commands import base
from tests.support.engine.intakes import STREAM, TOPIC, World
from tests.support.waiting import eventually
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile
from tidemill.domain.partitioner import partition_of
from tidemill.runtime.telemetry.metrics import REGISTRY
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord


def refusals() -> dict[tuple[str, str], float]:
    counted = {}
    for metric, outcome in (("rejections_total", "rejected"), ("parked_total", "parked")):
        for code in ("WRONG_KEY", "MALFORMED"):
            labels = {"aggregate": STREAM.aggregate, "code": code}
            counted[outcome, code] = REGISTRY.get_sample_value(f"tidemill_{metric}", labels) or 0.0
    return counted


async def test_what_is_refused_and_what_is_parked_are_counted_by_code() -> None:
    world = World()
    before = refusals()
    world.send("p1")
    world.broker.write(TOPIC, 0, *(OutboundRecord(b"p", b"not JSON", ()) for _ in range(2)))
    fields = base(profile_id="p2", name="two", profile_data="{}")
    value = encode(STREAM, RegisterConnectorProfile(**fields))
    world.broker.write(TOPIC, partition_of(b"other", STREAM.partitions), OutboundRecord(b"other", value, ()))
    async with world.running():
        await world.until_logged(4)
        await eventually(lambda: refusals() != before, what="the counts")
    after = refusals()
    assert {key: after[key] - before[key] for key in after} == {
        ("rejected", "WRONG_KEY"): 1,
        ("rejected", "MALFORMED"): 0,
        ("parked", "WRONG_KEY"): 0,
        ("parked", "MALFORMED"): 2,
    }
