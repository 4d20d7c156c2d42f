"""What compares two versions: the same bytes for both, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from pydantic import ValidationError

from benchmarks import plot, trickle
from benchmarks.against import Comparison, Turn, tables
from benchmarks.data import PARTITIONS, market_data, with_odd
from benchmarks.outside import HOPS, Cost
from tests.support.engine.streams import MARKET_DATA, messages_of
from tidemill.commands.ports import Decoded
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.partitioner import partition_of
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.codec import StreamCodec


async def test_commands_are_made_without_our_code_and_read_by_it() -> None:
    made = market_data(50, seed=1)
    assert made == market_data(50, seed=1)
    codec = await StreamCodec.open(MARKET_DATA, messages_of("market_data"), clock=SystemClock())
    assert all(isinstance(each, Decoded) for each in codec.decode([value for _, _, value in made]))
    assert all(partition == partition_of(key, PARTITIONS) for partition, key, _ in made)
    assert len({value for _, _, value in made}) == 50


async def test_odd_records_are_told_from_commands_and_are_a_tenth_of_all() -> None:
    plain = market_data(3_000, seed=1)
    mixed = with_odd(plain, seed=1)
    assert [record for record in mixed if record in set(plain)][:9] == plain[:9]
    codec = await StreamCodec.open(MARKET_DATA, messages_of("market_data"), clock=SystemClock())
    decoded = codec.decode([value for _, _, value in mixed])
    readable = [value for value in decoded if isinstance(value, Decoded)]
    names = Counter(str(value.fields["command_id"]) for value in readable)
    misplaced = sum(partition != partition_of(key, PARTITIONS) for partition, key, _ in mixed)
    invalid = sum(not _is_valid(value.fields) for value in readable)
    odd = len(mixed) - len(plain)
    assert 0.07 < odd / len(mixed) < 0.11
    kinds = [len(mixed) - len(readable), sum(count > 1 for count in names.values()), misplaced, invalid]
    assert all(odd / 12 < count < odd / 2 for count in kinds), kinds


def _is_valid(fields: Mapping[str, Any]) -> bool:
    try:
        RecordMarketData.model_validate(fields)
    except ValidationError:
        return False
    return True


def turn(old: float, new: float, again: float) -> Turn:
    def costs(total: float) -> dict[str, Cost]:
        return {hop: Cost(own_us=total - 1, postgres_us=1, start_s=2, rate=1_000) for hop in HOPS}

    return {"old": costs(old), "new": costs(new), "old again": costs(again)}


@pytest.mark.parametrize(
    ("turns", "verdict"),
    [
        pytest.param([turn(40, 41, 40), turn(40, 40, 41), turn(41, 40, 40)], "alike", id="as before"),
        pytest.param([turn(40, 44, 40), turn(40, 45, 41), turn(41, 44, 40)], "dearer", id="a tenth more"),
        pytest.param(
            [turn(40, 44, 50), turn(40, 48, 41), turn(41, 44, 40)], "within the noise", id="in a noisy run"
        ),
        pytest.param([turn(40, 35, 40), turn(40, 36, 41), turn(41, 35, 40)], "cheaper", id="a tenth less"),
    ],
)
def test_the_comparison_allows_what_the_old_version_differs_from_itself(
    turns: list[Turn], verdict: str
) -> None:
    assert {Comparison.of(turns, hop).verdict for hop in HOPS} == {verdict}
    assert sum(table.row_count for table in tables(turns)) == 6 * len(HOPS)


def test_a_comparison_is_drawn_with_its_medians() -> None:
    """A bar for each version and process, as long as its figures say, and text that says the same."""
    costs = {"old": (60.0, 20.0), "new": (30.0, 10.0), "old again": (60.0, 20.0)}
    turn = {
        side: {"commands": {"own_us": own, "postgres_us": theirs}} for side, (own, theirs) in costs.items()
    }
    picture = ET.fromstring(plot.drawing({"turns": [turn, turn]}))
    bars = [float(bar.attrib["width"]) for bar in picture.iter("{http://www.w3.org/2000/svg}rect")][-4:]
    assert [round(bar / bars[3], 2) for bar in bars] == [6.0, 2.0, 3.0, 1.0]
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[-4:] == ["commands, old", "80.0", "commands, new", "40.0"]


def test_each_lane_has_a_command_in_every_round_and_none_is_sent_twice() -> None:
    made = trickle.one_to_each_lane(3)
    assert [partition for partition, _, _ in made] == [*range(trickle.LANES)] * 3
    assert all(partition == partition_of(key, trickle.LANES) for partition, key, _ in made)
    assert len({value for _, _, value in made}) == len(made)
