"""What `tidemill status` says of the edition of TimescaleDB."""

from __future__ import annotations

from tests.support.servers.installation import Installation


def test_the_status_says_what_is_missing_and_what_stands_in_for_it(
    installation: Installation, timescaledb_edition: str
) -> None:
    said = installation("status", "--json", expect=None).json()
    (status,) = said if isinstance(said, list) else [said]
    if timescaledb_edition == "timescale":
        assert (status["edition"], status["lacking"]) == ("Community", [])
        return
    assert status["edition"] == "Apache"
    (missing,) = status["lacking"]
    assert (missing["aggregate"], missing["feature"]) == ("market-data", "compression of public.market_data")
    shown = " ".join(installation("status", expect=None).out.split())
    assert "Apache edition market-data has no compression of public.market_data: chunks stay" in shown
    assert "after the move, `tidemill migrate` adds it" in shown
