"""The audit: reads the books of one moment, waits for what was written by then to come through, and balances.

Under traffic the hops are never equal at one instant. So the books come first, from one snapshot; the topics and the
checkpoints must then reach them within a time; and a last look makes sure that they are not ahead of the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final

from tidemill.admin.audit.balance import Appended, Audit, Finding, Outside, ahead, audit
from tidemill.admin.lane_states import lane_of
from tidemill.admin.rows import Books, LaneState
from tidemill.app.deployment import Deployment
from tidemill.app.operations import inspecting, operating
from tidemill.app.startup.migrations import migrations_of
from tidemill.catalog.misfits import CODE, Misfit, MisfitReader
from tidemill.domain.context import AppendSpec
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.catalog.structure import StructureDatabase
from tidemill.storage.database.table_sql import table_name
from tidemill.transport.kafka.admin.inspection import Inspector

_POLL_S: Final = 0.25


async def run_audit(deployment: Deployment, *, wait_s: float) -> Audit:
    """Balance every hop. `wait_s`: how long what is on its way may take. Raises `Unavailable`."""
    appended = _appended(deployment)
    tables = {spec.table: None for spec in _append_specs(deployment)}
    async with operating(deployment) as (_, pool), inspecting(deployment) as inspector:
        database = OperationsDatabase(pool)
        books = await database.books(list(tables))
        misfits = MisfitReader(StructureDatabase(pool), migrations_of(deployment))
        unfit = _unfit(books, await misfits.of(deployment.catalog))
        wanted = {
            aggregate: [projection.name for projection in part.context.projections]
            for aggregate, part in deployment.catalog.streams.items()
        }
        deadline_s = monotonic() + wait_s
        while True:
            outside = await _look(database, inspector, books.lanes, wanted)
            result = audit(books, outside, appended)
            if not _behind(result) or monotonic() > deadline_s:
                break
            await asyncio.sleep(_POLL_S)
        findings = [*unfit, *result.findings, *ahead(await database.lanes(), outside)]
    return replace(result, findings=findings)


async def _look(
    database: OperationsDatabase,
    inspector: Inspector,
    lanes: Sequence[LaneState],
    wanted: Mapping[str, Sequence[str]],
) -> Outside:
    tails = await inspector.tails([lane_of(state) for state in lanes])
    projections = {projection.name: projection for projection in await database.projections()}
    return Outside(tails, projections, wanted)


def _unfit(books: Books, found: Sequence[Misfit]) -> list[Finding]:
    """Name the tables that are not as declared, and those whose rows cannot be counted for any other reason."""
    told = {
        str(each): Finding("table", each.table, None, None, f"{misfit.code}: {each.what}; {misfit.advice}")
        for misfit in found
        for each in misfit.differences
    }
    named = {finding.place for finding in told.values()}
    unread = [
        Finding("rows", table, None, None, f"{CODE}: its rows cannot be counted: {why_not}")
        for table, why_not in books.unread.items()
        if table not in named
    ]
    return [*told.values(), *unread]


def _behind(result: Audit) -> bool:
    """Whether something may still be on its way."""
    return any(finding.hop.startswith(("published", "outcomes", "projected")) for finding in result.findings)


def _appended(deployment: Deployment) -> list[Appended]:
    found = []
    for aggregate, part in deployment.catalog.contexts.items():
        types: dict[str, set[str]] = {}
        for name, spec in part.stream.commands.items():
            if isinstance(spec, AppendSpec):
                types.setdefault(table_name(spec.table), set()).add(name)
        for table, names in types.items():
            all_of_them = names == set(part.stream.commands)
            found.append(Appended(table, aggregate, None if all_of_them else frozenset(names)))
    return found


def _append_specs(deployment: Deployment) -> Iterator[AppendSpec]:
    for part in deployment.catalog.contexts.values():
        yield from (spec for spec in part.context.commands if isinstance(spec, AppendSpec))
