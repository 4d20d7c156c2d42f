"""Spans that may overlap: every one that contains an instant is found, against looking at each."""

from datetime import UTC, datetime, timedelta
from random import Random

from tidemill.domain.archive.ranges import Ranges

START = datetime(2010, 1, 7, tzinfo=UTC)


def hour(number: int) -> datetime:
    return START + timedelta(hours=number)


def test_what_is_found_is_what_looking_at_each_finds() -> None:
    chance = Random(7)
    for _ in range(200):
        spans = [(start, start + chance.randint(1, 12)) for start in chance.choices(range(20), k=6)]
        ranges = Ranges((hour(start), hour(end), (start, end)) for start, end in spans)
        first = chance.randint(-2, 33)
        last = first + chance.randint(1, 5)
        at = [(start, end) for start, end in spans if start <= first < end]
        sharing = [(start, end) for start, end in spans if start < last and end > first]
        assert list(ranges.at(hour(first))) == sorted(at, reverse=True)
        assert list(ranges.sharing(hour(first), hour(last))) == sorted(sharing, reverse=True)
