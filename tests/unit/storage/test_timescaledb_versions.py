"""Which versions of TimescaleDB are accepted."""

import pytest

from tidemill.domain.errors import UsageError
from tidemill.storage.migrations.applied import check_timescaledb


@pytest.mark.parametrize("version", ["2.19.0", "2.19.3", "2.29.2", "2.30.1", "2.32.0", "3.0.0", "2.33.0-dev"])
def test_good_versions(version: str) -> None:
    check_timescaledb(version)


@pytest.mark.parametrize(
    ("version", "says"),
    [(None, "it was dropped"), ("2.9.3", "too old"), ("2.18.2", "too old"), ("2.30.0", "2.31 or later")],
)
def test_others_are_refused_with_the_way_out(version: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_timescaledb(version)
