"""The archive of facts that come many to a command, by real processes: every row is somewhere, once, at each step.

Seal, copy, verify, drop, late rows by both policies, restore, and leaving again; and the account by our own audit and
by programs that know none of our code.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.acceptance.conftest import plain_installation
from tests.acceptance.test_all_contexts import Encoder
from tests.support.clients.clients import Outgoing
from tests.support.clients.journeys import Deployment
from tests.support.engine.built_in import BUILT_IN
from tests.support.engine.commands import base
from tests.support.waiting import eventually_blocking
from tidemill.contexts.system_logs import LogLine, RecordSystemLogs
from tidemill.contexts.telemetry_events import RecordTelemetryEvents, TelemetryEvent
from tidemill.domain.messages import CommandBase
from tidemill_devkit.stack import Stack

LONG_AGO = datetime(2010, 1, 5, tzinfo=UTC)
AS_OF = "2026-01-01T00:00:00Z"
NOW = datetime(2025, 12, 30, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
SPAN = ("--from", "2010-01-01", "--to", "2010-03-01")
COUNTED = """
select (select count(*) from public.{0}) as hot, (select count(*) from tm_late.public__{0}) as late
"""
EVICT = "update tm.archive set restore_until = '2025-01-01+00' where state = 'restored'"
STATES = "select state, generation from tm.archive where table_name = $1"


def telemetry(*times: datetime) -> CommandBase:
    events = [
        TelemetryEvent(
            time=time, name=f"load {number % 7}", value=number / 3, attributes=f'{{"n": {number}}}'
        )
        for number, time in enumerate(times)
    ]
    return RecordTelemetryEvents(**base(source="boiler", events=events))


def logs(*times: datetime) -> CommandBase:
    levels = ("info", "error")
    lines = [
        LogLine(time=time, level=levels[number % 2], message=f"line {number}\nof it", details='{"a": [1]}')
        for number, time in enumerate(times)
    ]
    return RecordSystemLogs.model_validate(base(lines=lines) | {"service": "store"})


MAKERS = {"telemetry_events": telemetry, "system_logs": logs}


@dataclass(frozen=True)
class Archiving:
    """A deployment whose facts leave for a lake when a process of the archive serves; one table of it."""

    deployment: Deployment
    table: str
    lake: Path
    encode: Encoder = field(repr=False)

    @property
    def name(self) -> str:
        return f"public.{self.table}"

    def with_policy(self, **policy: str) -> Archiving:
        """Return it with another policy of the table, in the settings of all processes that start from now on."""
        installation = self.deployment.installation
        policies = {"TIDEMILL_RETENTION_POLICIES": json.dumps({self.name: policy})}
        environment = {**installation.environment, **policies}
        deployment = replace(self.deployment, installation=replace(installation, environment=environment))
        return replace(self, deployment=deployment)

    def send(self, *rows_of_commands: list[datetime]) -> None:
        """Send a command for each list of times; they are acknowledged when this returns."""
        context = BUILT_IN[self.table]
        commands = [MAKERS[self.table](*times) for times in rows_of_commands]
        topic = f"{self.deployment.installation.prefix}.{context.aggregate}.commands.v1"
        records = [Outgoing(context.key(command).encode(), self.encode(command)) for command in commands]
        self.deployment.client.send(topic, records)

    def outcomes(self) -> list[tuple[str, int, str | None]]:
        """Return outcome, rows and code of each command, in order."""
        arguments = ("--role", "outcomes", "--from-beginning", "--no-follow", "--json")
        told = self.deployment("tail", BUILT_IN[self.table].aggregate, *arguments).json_lines()
        values = [record["value"] for record in told]
        return [(value["outcome"], value["affected_rows"], value["code"]) for value in values]

    def await_outcomes(self, count: int) -> list[tuple[str, int, str | None]]:
        return (
            eventually_blocking(
                lambda: told if len(told := self.outcomes()) >= count else None, what=f"{count} outcomes"
            )
            or []
        )

    def await_states(self, **wanted: int) -> None:
        """Wait until so many slices of the table are in these states, and none in another one."""

        def settled() -> bool:
            rows = self.deployment.installation.fetch(STATES, self.name)
            return Counter(row["state"] for row in rows) == Counter(wanted)

        eventually_blocking(settled, what=f"the slices to be {wanted}")

    def places(self) -> tuple[int, int, int]:
        """Return how many rows are hot, late and in the lake, for programs that know none of our code."""
        (row,) = self.deployment.installation.fetch(COUNTED.format(self.table))
        files = [str(path) for path in self.lake.glob(f"{self.name}/**/*.parquet")]
        with duckdb.connect() as reading:
            cold = len(reading.read_parquet(files).select("command_id").fetchall()) if files else 0
        return row["hot"], row["late"], cold

    def balance(self) -> dict[str, Any]:
        """Return the audit's account of the table; the audit balances."""
        account = self.deployment("audit", "--wait", "300", "--json").json()
        assert account["balanced"] is True
        (table,) = [table for table in account["tables"] if table["table"] == self.name]
        return {name: table[name] for name in ("applied", "hot", "archived", "diverted", "restored")}

    def rows_of_long_ago(self) -> tuple[Counter[Any], Counter[Any]]:
        """Return what the table and the lake hold of the archived span: id of the command, time, and a text."""
        own = "name" if self.table == "telemetry_events" else "message"
        columns = f"command_id::text, extract(epoch from time)::text, {own}"
        query = f"select {columns} from public.{self.table} where time < '2010-03-01+00'"
        hot = self.deployment.installation.fetch(query)
        files = [str(path) for path in self.lake.glob(f"{self.name}/**/*.parquet")]
        with duckdb.connect() as reading:
            reading.execute("set timezone = 'UTC'")
            cold = reading.read_parquet(files).select(f"command_id::text, epoch_us(time), {own}").fetchall()
        return Counter((row[0], round(float(row[1]) * 1e6), row[2]) for row in hot), Counter(cold)


@pytest.fixture(params=MAKERS)
def archiving(
    request: pytest.FixtureRequest, stack: Stack, database: str, topic_prefix: str, tmp_path: Path
) -> Iterator[Archiving]:
    """A deployment of both contexts with a lake; nothing serves yet."""
    lake = tmp_path / "lake"
    own = {
        "TIDEMILL_CONTEXTS": ",".join(MAKERS),
        "TIDEMILL_LAKE_ROOT": str(lake),
        "TIDEMILL_RETENTION_AS_OF": AS_OF,
        "TIDEMILL_RETENTION_EVERY_S": "0.3",
    }
    with ExitStack() as exit_stack:
        installation = plain_installation(stack, database, topic_prefix, 2, tmp_path)
        chosen = replace(installation, environment={**installation.environment, **own})
        deployment = Deployment(chosen, 2, exit_stack)
        deployment("topics", "create")
        yield Archiving(deployment, request.param, lake, Encoder(BUILT_IN[request.param]))


def test_every_row_of_commands_with_many_is_somewhere_once(archiving: Archiving) -> None:
    worker = archiving.deployment.start("all")
    archiving.send([*(LONG_AGO + number * MINUTE for number in range(500)), NOW], [NOW, NOW])
    assert archiving.await_outcomes(2) == [("applied", 501, None), ("applied", 2, None)]
    archiving.await_states(dropped=1)
    assert archiving.places() == (3, 0, 500)
    assert archiving.balance() == account(applied=503, hot=3, archived=500)

    # late rows are diverted, and leave as a generation of their own; the others of their command stay
    archiving.send([LONG_AGO, NOW, LONG_AGO + DAY])
    assert archiving.await_outcomes(3)[2:] == [("applied", 3, None)]
    archiving.await_states(dropped=2)
    assert archiving.places() == (4, 0, 502)
    assert archiving.balance() == account(applied=506, hot=4, archived=502)
    assert worker.stop() == 0

    # by the other policy one late row refuses its command, whole
    archiving = archiving.with_policy(late="reject")
    archiving.deployment.start("all")
    archiving.send([NOW, LONG_AGO, NOW], [NOW])
    assert archiving.await_outcomes(5)[3:] == [("rejected", 0, "RANGE_CLOSED"), ("applied", 1, None)]
    assert archiving.places() == (5, 0, 502)
    assert archiving.balance() == account(applied=507, hot=5, archived=502)

    # rows come back as they left, and leave again
    archiving.deployment("retention", "restore", archiving.name, *SPAN, "--days", "1", "--yes")
    archiving.await_states(restored=2)
    hot, cold = archiving.rows_of_long_ago()
    assert hot == cold
    assert archiving.places() == (507, 0, 502)
    assert archiving.balance() == account(applied=507, hot=5, archived=502, restored=502)
    archiving.deployment.installation.execute(EVICT)
    archiving.await_states(dropped=2)
    assert archiving.places() == (5, 0, 502)
    assert archiving.balance() == account(applied=507, hot=5, archived=502)


def account(**rows: int) -> dict[str, int]:
    """Return the account of a table; what is not named is 0."""
    return dict.fromkeys(("applied", "hot", "archived", "diverted", "restored"), 0) | rows
