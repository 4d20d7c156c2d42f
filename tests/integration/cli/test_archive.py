"""The archive as an operator sees it: `serve all` runs it where there is a lake, status, audit and metrics show it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.servers.installation import Installation, Serving
from tests.support.waiting import HANGING_S, eventually_blocking

TABLE = "public.market_data"
AS_OF = "2026-01-01T00:00:00Z"


def publish(installation: Installation, *days: str) -> None:
    lines = [
        json.dumps({"symbol": "AAPL", "time": f"{day}T21:00:00Z", "price": 1.5, "source": "test"})
        for day in days
    ]
    installation("publish", "RecordMarketData", "-", "--wait", stdin="\n".join(lines))


def archive(installation: Installation) -> dict[str, Any]:
    (found,) = installation("status", "--json", expect=None).json()["archive"]
    return dict(found)


def balance(installation: Installation, expect: int = 0) -> dict[str, Any]:
    found = installation("audit", "--json", expect=expect).json()
    (table,) = found["tables"]
    return {**table, "places": {finding["place"] for finding in found["findings"]}}


def metrics(serving: Serving) -> dict[str, float]:
    with urllib.request.urlopen(f"{serving.address}/metrics", timeout=HANGING_S) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("tidemill_archive")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def events(serving: Serving) -> list[str]:
    return [line.get("event", "") for line in serving.lines()]


def test_without_a_lake_nothing_leaves_and_the_log_says_why(prepared: Installation) -> None:
    with prepared.serving() as serving:
        publish(prepared, "2013-02-01")
        (told,) = [line for line in serving.lines() if line.get("event") == "archive_off"]
        assert told["reason"] == "TIDEMILL_LAKE_ROOT is not set"
        assert "archiver" not in serving.health()[1]["services"]
        assert serving.stop() == 0
    assert archive(prepared)["slices"] == {}
    assert "nothing yet" in prepared("status", expect=None).out


def test_with_a_lake_old_rows_leave_and_every_row_is_accounted_for(
    prepared: Installation, tmp_path: Path
) -> None:
    with prepared.serving() as serving:
        publish(prepared, "2010-02-01", "2010-02-02", "2013-02-01", "2025-10-01")
        assert serving.stop() == 0
    lake = tmp_path / "lake"
    told = {"TIDEMILL_LAKE_ROOT": str(lake), "TIDEMILL_RETENTION_AS_OF": AS_OF}
    with prepared.serving(**told, TIDEMILL_RETENTION_EVERY_S="0.3") as serving:
        eventually_blocking(lambda: archive(prepared)["slices"] == {"dropped": 2}, what="two ranges to leave")
        assert {"retention", "archiver", "archival"} <= serving.health()[1]["services"].keys()
        eventually_blocking(
            lambda: metrics(serving).get(f'tidemill_archive_slices{{state="dropped",table="{TABLE}"}}') == 2,
            what="the metrics to show it",
        )
        found = metrics(serving)
        assert found[f'tidemill_archive_bytes{{table="{TABLE}",tier="lake"}}'] > 0
        assert found[f'tidemill_archive_seal_age_seconds{{table="{TABLE}"}}'] == 0
        assert found['tidemill_archive_rounds_total{result="moved"}'] > 0
        publish(prepared, "2010-02-03")  # too late: it is diverted, and leaves as a generation of its own
        eventually_blocking(
            lambda: archive(prepared)["slices"] == {"dropped": 3}, what="the late row to leave"
        )
        assert serving.stop() == 0
    assert len(list(lake.glob(f"{TABLE}/*.parquet"))) == 3
    table = balance(prepared)
    assert (table["applied"], table["hot"], table["archived"], table["diverted"]) == (5, 1, 4, 0)
    assert table["places"] == set()
    assert "3 dropped" in prepared("status", expect=None).out
    prepared.execute("delete from tm.archive where generation = 2")
    assert balance(prepared, expect=1)["places"] == {TABLE}
    prepared.execute(f"insert into {TABLE} (time, symbol, price, source, command_id) "
                     "values ('2026-01-01', 'X', 1, 'nobody', gen_random_uuid())")  # fmt: skip
    assert balance(prepared)["places"] == set(), "an audit counts; it does not compare values"
