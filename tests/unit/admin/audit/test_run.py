"""The audit waits for what is on its way, as long as it may; and names tables that cannot be counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, cast

from tests.unit.admin.audit.test_balance import TABLE, World
from tidemill.admin.audit.balance import Audit
from tidemill.admin.audit.run import Auditor, appended_tables, unfit_tables
from tidemill.admin.ports import AuditReader, LaneReader, ReadModelStates, TopicInspector
from tidemill.admin.rows import AuditRows, LaneState, ProjectionState
from tidemill.catalog.misfits import Misfit, MisfitReader
from tidemill.catalog.ports import DeclaredTables, PendingMigrations
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.catalog.tables import Difference, Kind
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.market_data import context as market_data
from tidemill.domain.lane import Lane
from tidemill.domain.stream import Stream
from tidemill.outbox.ports import Tail, Tails

LACKS = Difference(TABLE, "column price is missing", Kind.MISSING)


def catalog(*contexts: Any) -> StreamCatalog:
    return StreamCatalog(
        {context.aggregate: ContextStream(context, Stream.of(context)) for context in contexts}
    )


def name_of(table: Any) -> str:
    return f"public.{table.name}"


class Seconds:
    """A clock by which every look takes a second."""

    def __init__(self) -> None:
        self._seconds = count()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic_s(self) -> float:
        return next(self._seconds)


class Servers:
    """A world in balance, whose last event comes into its topic at the look `arrives`."""

    def __init__(self, arrives: int) -> None:
        self.world, self.looks, self.arrives = World(), 0, arrives

    async def audit_rows(self, tables: Sequence[Any]) -> AuditRows:
        return self.world.audit_rows()

    async def lanes(self) -> list[LaneState]:
        return self.world.lanes

    async def projections(self) -> list[ProjectionState]:
        (quotes,) = self.world.outside().projections.values()
        return [quotes, quotes._replace(name="daily-bars")]

    async def tails(self, lanes: Sequence[Lane]) -> dict[int, Tails]:
        self.looks += 1
        behind = {1: Tails(Tail(8, 5, "x:0"), Tail(10, 6, None), Tail(8, 6, None))}
        return self.world.tails | (behind if self.looks < self.arrives else {})

    async def nothing(self, *_: object) -> list[Any]:
        return []

    stream_differences = projection_differences = missing = nothing


async def audited(servers: Servers, *, wait_s: float) -> Audit:
    tables = cast("DeclaredTables", servers), cast("PendingMigrations", servers)
    return await Auditor(
        catalog=catalog(market_data),
        reader=cast("AuditReader", servers),
        lanes=cast("LaneReader", servers),
        read_models=cast("ReadModelStates", servers),
        misfits=MisfitReader(*tables),
        topics=cast("TopicInspector", servers),
        table_name=name_of,
        clock=Seconds(),
    ).run(wait_s=wait_s)


async def test_what_is_on_its_way_is_waited_for() -> None:
    servers = Servers(arrives=2)
    assert (await audited(servers, wait_s=10)).findings == []
    assert servers.looks == 2


async def test_what_does_not_come_in_time_is_found_missing() -> None:
    found = await audited(Servers(arrives=99), wait_s=0)
    assert [finding.hop for finding in found.findings] == ["published"]


def test_a_table_that_is_not_as_declared_is_named_once_with_what_would_mend_it() -> None:
    misfits = [Misfit("market-data", projection, [LACKS], "migrate") for projection in (None, "quotes")]
    unread = {TABLE: "no such column", "public.other": "no right to read it"}
    found = unfit_tables(World().audit_rows()._replace(unread=unread), misfits)
    assert [(finding.hop, finding.place) for finding in found] == [("table", TABLE), ("rows", "public.other")]
    assert found[0].what == "TABLE_MISFIT: column price is missing; migrate"


def test_a_table_to_which_every_command_of_its_aggregate_is_appended_needs_no_log_to_be_counted() -> None:
    (found,) = appended_tables(catalog(market_data, connector_profiles), name_of)
    assert (found.table, found.aggregate, found.types) == (TABLE, "market-data", None)


def test_where_only_some_commands_are_appended_they_are_named() -> None:
    part = catalog(market_data).of("market-data")
    (name,) = part.stream.commands
    commands = {**part.stream.commands, "tidemill.market_data.Other": decided()}
    partly = replace(part, stream=replace(part.stream, commands=commands))
    (found,) = appended_tables(StreamCatalog({"market-data": partly}), name_of)
    assert found.types == frozenset({name})


def decided() -> Any:
    """Return a command that is not appended."""
    return catalog(connector_profiles).of("connector-profiles").context.commands[0]
