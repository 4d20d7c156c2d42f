"""Tables that are not what contexts declare, under processes that serve: the stream stands, named, and others go on."""

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.servers.installation import Installation, Serving, installation_on
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill_devkit.stack import Stack

GUARD = "create unique index {} on public.connector_profiles (service_name, name) where active"
MISSING = "public.market_data: the table is missing"


@pytest.fixture
def prepared(stack: Stack, database: str, topic_prefix: str, tmp_path: Path) -> Installation:
    installation = installation_on(stack, database, topic_prefix, tmp_path, partitions=4)
    installation("schemas", "register")
    installation("topics", "create")
    return installation


def tick(symbol: str) -> str:
    return json.dumps({"symbol": symbol, "time": "2013-02-01T00:00:00Z", "price": 1, "source": "test"})


def profiles(*ids: str, name: str) -> str:
    commands = [
        {"profile_id": each, "name": name, "profile_data": "{}", "command_id": str(uuid4())} for each in ids
    ]
    return "\n".join(map(json.dumps, commands))


def outcomes(installation: Installation, command: str, lines: str) -> Sequence[tuple[str, str | None]]:
    said = installation("publish", command, "-", "--wait", "--json", stdin=lines, expect=None)
    return sorted((answer["outcome"], answer.get("code")) for answer in said.json_lines())


def misfit_of(serving: Serving, service: str) -> dict[str, Any]:
    """What a service says of itself that stands; empty while it does not."""
    found: dict[str, Any] = serving.health()[1]["services"].get(service, {})
    return found if found.get("code") == "TABLE_MISFIT" else {}


def metric(serving: Serving, name: str) -> str:
    with urllib.request.urlopen(f"{serving.address}/metrics", timeout=HANGING_S) as answer:
        lines: list[str] = answer.read().decode().splitlines()
    return next(line.rpartition(" ")[2] for line in lines if line.startswith(name))


def owners(installation: Installation, aggregate: str) -> int:
    (row,) = installation.fetch("select count(owner) as lanes from tm.lane where aggregate = $1", aggregate)
    return int(row["lanes"])


def test_two_lanes_do_not_take_one_value_while_its_guard_is_missing(prepared: Installation) -> None:
    """The profiles' ids fall in different lanes, where only the index keeps the name from being taken twice."""
    prepared.execute("drop index public.connector_profiles_active_name")
    prepared("publish", "RegisterConnectorProfile", "-", stdin=profiles("p0", "p1", name="taken"))
    with prepared.serving() as serving:
        standing = eventually_blocking(lambda: misfit_of(serving, "connector-profiles"), what="a misfit")
        assert outcomes(prepared, "RecordMarketData", tick("AAPL")) == [("applied", None)]
        assert owners(prepared, "connector-profiles") == 0
        assert serving.health()[0] == 200, "no restart mends it"
        (difference,) = standing["differences"]
        assert difference.startswith(
            "public.connector_profiles: unique index connector_profiles_active_name is missing"
        )
        assert GUARD.format("connector_profiles_active_name") in standing["next"]
        assert metric(serving, 'tidemill_table_misfits{aggregate="connector-profiles"}') == "1.0"
        told = prepared("status", expect=1).out
        assert "TABLE_MISFIT" in told
        assert "connector_profiles_active_name is missing" in told
        prepared.execute(GUARD.format("another_name"))
        renamed = lambda: "another_name" in str(misfit_of(serving, "connector-profiles"))
        eventually_blocking(renamed, what="the guard under another name to be named")
        assert owners(prepared, "connector-profiles") == 0
        prepared.execute("alter index public.another_name rename to connector_profiles_active_name")
        eventually_blocking(lambda: owners(prepared, "connector-profiles") == 4, what="the lanes")
        eventually_blocking(lambda: len(dispositions(prepared)) == 2, what="both commands to be decided")
        assert dispositions(prepared) == [(b"a", None), (b"r", "NAME_TAKEN")]
        assert prepared("status").code == 0
        assert serving.stop() == 0


def dispositions(installation: Installation) -> list[tuple[bytes, str | None]]:
    rows = installation.fetch(
        "select outcome, code from tm.log where type like '%Connector%' order by outcome"
    )
    return [(row["outcome"], row["code"]) for row in rows]


def test_a_table_that_goes_missing_under_a_process_stops_its_stream_alone(prepared: Installation) -> None:
    with prepared.serving() as serving:
        assert outcomes(prepared, "RecordMarketData", tick("AAPL")) == [("applied", None)]
        prepared.execute("alter table public.market_data rename to elsewhere")
        prepared("publish", "RecordMarketData", "-", stdin=tick("IBM"))
        named = lambda: misfit_of(serving, "market-data").get("differences") == [MISSING]
        eventually_blocking(named, what="the table to be named")
        done = outcomes(prepared, "RegisterConnectorProfile", profiles("p0", "p1", name="n"))
        assert done == [("applied", None), ("rejected", "NAME_TAKEN")]
        assert owners(prepared, "market-data") == 0
        audited = prepared("audit", "--json", expect=1).json()
        assert [each["place"] for each in audited["findings"]] == ["public.market_data"]
        assert "TABLE_MISFIT" in audited["findings"][0]["what"]
        assert "TABLE_MISFIT" in prepared("status", expect=1).out
        assert prepared("query", "connector-directory", "--json").code == 0
        prepared.execute("alter table public.elsewhere rename to market_data")
        recorded = lambda: prepared.fetch("select from public.market_data where symbol = 'IBM'")
        eventually_blocking(recorded, what="the command that came meanwhile")
        assert prepared("audit", "--json").json()["balanced"] is True
        assert serving.stop() == 0


def test_a_read_model_that_goes_missing_stops_alone_and_goes_on_by_itself(prepared: Installation) -> None:
    with prepared.serving() as serving:
        prepared.execute("alter table public.latest_quotes rename to elsewhere")
        assert outcomes(prepared, "RecordMarketData", tick("AAPL")) == [("applied", None)]
        service = "read models of market-data"
        shown = lambda: serving.health()[1]["services"][service]["latest-quotes"].get("misfit")
        assert "public.latest_quotes: the table is missing" in eventually_blocking(shown, what="a misfit")
        assert metric(serving, 'tidemill_projection_misfit{projection="latest-quotes"}') == "1.0"
        bars = lambda: prepared.fetch("select from public.daily_bars")
        eventually_blocking(bars, what="the other read model")
        assert "TABLE_MISFIT" in prepared("status", expect=1).out
        said = prepared("query", "latest-quotes", expect=1)
        assert "latest-quotes" in said.err
        assert "tidemill migrate" not in said.err, "nothing is pending"
        prepared.execute("alter table public.elsewhere rename to latest_quotes")
        eventually_blocking(
            lambda: prepared.fetch("select from public.latest_quotes"),
            what="the event that came meanwhile",
        )
        assert prepared("audit", "--json").json()["balanced"] is True
        assert serving.stop() == 0
