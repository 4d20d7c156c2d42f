"""The audit: reads the ledger of one moment, waits until what was written by then has arrived, and balances.

Under traffic the steps are never equal at one instant. So the ledger is read first, from one snapshot; topics and
checkpoints must then reach it within a time; and a last read makes sure that they are not ahead of the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tidemill.admin.audit.balance import Appended, Audit, Imbalance, Outside, ahead, audit
from tidemill.admin.lanes.states import lane_of
from tidemill.admin.ports import AuditReader, LaneReader, ReadModelStates, TopicInspector
from tidemill.admin.read_models import TableName
from tidemill.admin.rows import AuditRows, LaneState
from tidemill.catalog.misfits import CODE, Misfit, MisfitReader
from tidemill.catalog.streams import StreamCatalog
from tidemill.domain.context import CommandSpec, DecideSpec
from tidemill.domain.table_shape import TableShape
from tidemill.runtime.clock import Clock

_POLL_S: Final = 0.25


@dataclass(frozen=True, kw_only=True)
class Auditor:
    """Balances every step of a deployment."""

    catalog: StreamCatalog
    reader: AuditReader
    lanes: LaneReader
    read_models: ReadModelStates
    misfits: MisfitReader
    topics: TopicInspector
    table_name: TableName
    clock: Clock

    async def run(self, *, wait_s: float) -> Audit:
        """Balance every step. `wait_s`: how long to wait for records in flight. Raises `Unavailable`."""
        appended = appended_tables(self.catalog, self.table_name)
        audit_rows = await self.reader.audit_rows(list(_tables(self.catalog)))
        unfit = unfit_tables(audit_rows, await self.misfits.of(self.catalog))
        wanted = {
            aggregate: [projection.name for projection in part.context.projections]
            for aggregate, part in self.catalog.streams.items()
        }
        deadline_s = self.clock.monotonic_s() + wait_s
        while True:
            outside = await self._look(audit_rows.lanes, wanted)
            result = audit(audit_rows, outside, appended)
            if not _behind(result) or self.clock.monotonic_s() > deadline_s:
                break
            await asyncio.sleep(_POLL_S)
        findings = [*unfit, *result.findings, *ahead(await self.lanes.lanes(), outside)]
        return replace(result, findings=findings)

    async def _look(self, lanes: Sequence[LaneState], wanted: Mapping[str, Sequence[str]]) -> Outside:
        tails = await self.topics.tails([lane_of(state) for state in lanes])
        projections = {projection.name: projection for projection in await self.read_models.projections()}
        return Outside(tails, projections, wanted)


def unfit_tables(audit_rows: AuditRows, misfits: Sequence[Misfit]) -> list[Imbalance]:
    """Name the tables that are not as declared, and those whose rows cannot be counted for any other reason."""
    found = {
        str(each): Imbalance("table", each.table, None, None, f"{misfit.code}: {each.what}; {misfit.advice}")
        for misfit in misfits
        for each in misfit.differences
    }
    named = {finding.place for finding in found.values()}
    unread = [
        Imbalance("rows", table, None, None, f"{CODE}: its rows cannot be counted: {why_not}")
        for table, why_not in audit_rows.unread.items()
        if table not in named
    ]
    return [*found.values(), *unread]


def _behind(result: Audit) -> bool:
    """Whether records may still be in flight."""
    return any(finding.hop.startswith(("published", "outcomes", "projected")) for finding in result.findings)


def appended_tables(catalog: StreamCatalog, table_name: TableName) -> list[Appended]:
    """Return the tables that commands append to, and which commands of which aggregate do."""
    appended: list[Appended] = []
    for aggregate, part in catalog.contexts.items():
        types: dict[str, dict[str, CommandSpec]] = {}
        for name, spec in part.stream.commands.items():
            if spec.appends_to is not None:
                types.setdefault(table_name(spec.appends_to), {})[name] = spec
        removals = {
            table_name(facts.table): frozenset({name}) for name, facts in part.stream.removals.items()
        }
        for table, specs in types.items():
            declared = _appended(table, aggregate, specs, len(part.stream.commands))
            appended.append(replace(declared, removals=removals.get(table, frozenset())))
    return appended


def _appended(table: str, aggregate: str, specs: Mapping[str, CommandSpec], commands: int) -> Appended:
    """Return what appends to a table. `commands`: how many kinds of them the aggregate has."""
    decided = frozenset(name for name, spec in specs.items() if isinstance(spec, DecideSpec))
    if len(specs) == commands and not decided:
        return Appended(table, aggregate, None)
    return Appended(table, aggregate, frozenset(specs), decided)


def _tables(catalog: StreamCatalog) -> dict[TableShape, None]:
    """Return the declared tables that commands append to, each once."""
    specs = (spec for part in catalog.contexts.values() for spec in part.context.commands)
    return dict.fromkeys(spec.appends_to for spec in specs if spec.appends_to is not None)
