"""After a failover nothing has to be restarted: who has sessions at a server that takes no writes leaves them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.databases import SESSIONS, database_of
from tests.support.servers.installation import Installation, Serving, installation_on
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill_devkit.stack import Stack

AS_OF = "2026-01-01T00:00:00Z"
TIMEOUT_S = HANGING_S
"""A guard against a process that never goes on; it takes a few seconds."""


@pytest.fixture
def prepared(stack: Stack, database: str, unique_name: Callable[[str], str], tmp_path: Path) -> Installation:
    installation = installation_on(stack, database, unique_name("read-only"), tmp_path, partitions=2)
    installation("schemas", "register")
    installation("topics", "create")
    return installation


@pytest.fixture
def serving(prepared: Installation, tmp_path: Path) -> Iterator[Serving]:
    told = {
        "TIDEMILL_LAKE_ROOT": str(tmp_path / "lake"),
        "TIDEMILL_RETENTION_AS_OF": AS_OF,
        "TIDEMILL_RETENTION_EVERY_S": "0.3",
    }
    with prepared.serving(**told) as serving:
        yield serving


def lines(*days: str) -> str:
    told = [{"symbol": "AAPL", "time": f"{day}T21:00:00Z", "price": 1.5, "source": "test"} for day in days]
    return "\n".join(map(json.dumps, told))


def administer(installation: Installation, *statements: str) -> None:
    """Run statements beside the database, whatever mode that is in; `{name}` is its name."""
    name = installation.database.rpartition("/")[2]

    async def work(session: Any) -> None:
        for statement in statements:
            await session.execute(statement.format(name=name))

    SESSIONS.run(database_of(installation.database, "postgres"), work)


def test_each_goes_on_by_itself_when_its_database_takes_writes_again(
    prepared: Installation, serving: Serving
) -> None:
    prepared("publish", "RecordMarketData", "-", "--wait", stdin=lines("2025-10-01"))
    administer(
        prepared,
        "alter database {name} set default_transaction_read_only = on",
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{name}'",
    )
    late = lines("2025-10-02", "2025-10-03", "2010-02-01")
    prepared("publish", "RecordMarketData", "-", stdin=late)
    eventually_blocking(lambda: intake_waits(serving), TIMEOUT_S, "intake to notice")
    eventually_blocking(lambda: not database_is_well(serving), TIMEOUT_S, "the probe to notice")
    administer(prepared, "alter database {name} reset default_transaction_read_only")
    prepared("publish", "RecordMarketData", "-", "--wait", "--timeout", str(int(TIMEOUT_S)), stdin=late)
    eventually_blocking(
        lambda: archive(prepared).get("dropped") == 1, TIMEOUT_S, "the range of 2010 to leave"
    )
    eventually_blocking(lambda: everything_is_projected(prepared), TIMEOUT_S, "the read models")
    assert prepared("audit", "--json").json()["balanced"] is True
    eventually_blocking(serving.well, TIMEOUT_S, "health")
    assert serving.stop() == 0


def intake_waits(serving: Serving) -> bool:
    """Whether what was sent met a database that takes no writes."""
    status, content = serving.health()
    return status == 503 and bool(content["services"]["market-data"].get("intake", {}).get("trouble"))


def database_is_well(serving: Serving) -> bool:
    return bool(serving.health()[1]["dependencies"]["database"]["ok"])


def archive(installation: Installation) -> dict[str, Any]:
    (found,) = installation("status", "--json", expect=None).json()["archive"]
    return dict(found["slices"])


def everything_is_projected(installation: Installation) -> bool:
    views = installation("status", "--json", expect=None).json()["views"]
    return all(view["started"] and view["lag"] == 0 for view in views)
