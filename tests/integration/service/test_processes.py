"""The processes as a deployment runs them: commands and read models apart, lanes shared, all of it measured."""

import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.servers.installation import Installation, Serving, installation_on
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill_devkit.stack import Stack


@pytest.fixture
def prepared(stack: Stack, database: str, unique_name: Callable[[str], str], tmp_path: Path) -> Installation:
    installation = installation_on(stack, database, unique_name("processes"), tmp_path, partitions=4)
    installation("schemas", "register")
    installation("topics", "create")
    return installation


def publish(installation: Installation, *symbols: str) -> None:
    lines = [
        json.dumps({"symbol": symbol, "time": "2013-02-01T00:00:00Z", "price": 1, "source": "test"})
        for symbol in symbols
    ]
    installation("publish", "RecordMarketData", "-", "--wait", stdin="\n".join(lines))


def metric(serving: Serving, pattern: str) -> float:
    with urllib.request.urlopen(f"{serving.address}/metrics", timeout=HANGING_S) as answer:
        found = re.search(rf"^tidemill_{pattern} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def lanes_of(serving: Serving) -> int:
    return sum(
        service["intake"]["lanes"]
        for service in serving.health()[1]["services"].values()
        if "intake" in service
    )


def test_commands_and_read_models_in_processes_of_their_own(prepared: Installation) -> None:
    with prepared.serving("commands") as commands, prepared.serving("projections") as projections:
        publish(prepared, "AAPL", "IBM", "MSFT")
        assert prepared("audit", "--json").json()["balanced"] is True
        assert metric(commands, r'records_total\{aggregate="market-data",outcome="applied"\}') == 3
        assert metric(commands, r'published_records_total\{aggregate="market-data",role="events"\}') == 3
        assert metric(commands, r'lanes_owned\{aggregate="market-data"\}') == 4
        assert metric(commands, r'batch_seconds_count\{aggregate="market-data"\}') >= 1
        assert metric(projections, r'projected_events_total\{projection="latest-quotes"\}') == 3
        folded = lambda: metric(projections, r'projection_lag_events\{projection="latest-quotes"\}') == 0
        eventually_blocking(folded, what="the lag of the read model")
        assert metric(projections, r'build_info\{process="projections",version="[^"]+"\}') == 1
        for serving in (commands, projections):
            assert serving.health()[1]["dependencies"].keys() == {"database", "kafka"}
            assert serving.stop() == 0


def test_lanes_are_shared_and_taken_over(prepared: Installation, tmp_path: Path) -> None:
    second_folder = tmp_path / "second"
    second_folder.mkdir()
    beside = Installation(prepared.environment, second_folder)
    with prepared.serving("commands") as first:
        eventually_blocking(lambda: lanes_of(first) == 8, what="all lanes")
        with beside.serving("commands") as second:
            eventually_blocking(
                lambda: (lanes_of(first), lanes_of(second)) == (4, 4), what="lanes to be shared"
            )
            publish(prepared, "AAPL", "IBM", "MSFT", "GOOG")
            assert first.stop() == 0
            eventually_blocking(lambda: lanes_of(second) == 8, what="lanes to be taken over")
            publish(prepared, "AAPL", "IBM", "MSFT", "GOOG", "FB")
            (rows,) = prepared.fetch("select count(*) as rows from public.market_data")
            assert rows["rows"] == 5, "four were the same commands again"
            assert second.stop() == 0


def test_the_audit_balances_while_commands_come_in(prepared: Installation, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    lines = [
        json.dumps(
            {"symbol": f"S{number % 50}", "time": "2013-02-01T00:00:00Z", "price": number, "source": "t"}
        )
        for number in range(6_000)
    ]
    path.write_text("\n".join(lines))
    with prepared.serving() as serving:
        publishing = prepared.popen("publish", "RecordMarketData", path, "--wait", "--timeout", "300")
        audits = []
        while publishing.poll() is None:
            audits.append(prepared("audit", "--json", "--wait", "300").json())
        assert publishing.returncode == 0
        audits.append(prepared("audit", "--json").json())
        assert all(audit["balanced"] for audit in audits)
        consumed = [sum(lane["records"] for lane in audit["lanes"]) for audit in audits]
        assert consumed == sorted(consumed)
        assert consumed[-1] == 6_000
        assert serving.stop() == 0
