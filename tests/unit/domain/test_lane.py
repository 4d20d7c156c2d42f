"""What is said of lanes in a log line."""

import pytest

from tidemill.domain.lane import spans


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ([], ""),
        ([7], "7"),
        ([8, 5, 7, 6, 7], "5-8"),
        ([3, 1, 2, 7, 64, 63], "1-3, 7, 63-64"),
        (range(1, 33), "1-32"),
        (range(1, 64, 2), "1, 3, 5, 7, 9, 11, 13, 15 and 24 more"),
        ([*range(1, 16, 2), 20, 21, 22, 30], "1, 3, 5, 7, 9, 11, 13, 15 and 4 more"),
    ],
)
def test_many_lanes_are_a_short_text(numbers: list[int], shown: str) -> None:
    assert spans(numbers) == shown
