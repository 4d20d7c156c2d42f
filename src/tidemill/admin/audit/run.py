"""The audit: reads the ledger of one moment, waits until what was written by then has arrived, and balances.

Under traffic the steps are never equal at one instant. So the ledger is read first, from one snapshot; topics and
checkpoints must then reach it within a time; and a last read makes sure that they are not ahead of the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tidemill.admin.audit.balance import Appended, Audit, Imbalance, Outside, ahead, audit
from tidemill.admin.lanes.states import lane_of
from tidemill.admin.ports import AuditReader, LaneReader, ReadModelStates, TopicInspector
from tidemill.admin.read_models import TableName
from tidemill.admin.rows import AuditRows, LaneState
from tidemill.catalog.misfits import CODE, Misfit, MisfitReader
from tidemill.catalog.streams import StreamCatalog
from tidemill.domain.context import AppendSpec
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
    found = []
    for aggregate, part in catalog.contexts.items():
        types: dict[str, set[str]] = {}
        for name, spec in part.stream.commands.items():
            if isinstance(spec, AppendSpec):
                types.setdefault(table_name(spec.table), set()).add(name)
        for table, names in types.items():
            all_of_them = names == set(part.stream.commands)
            found.append(Appended(table, aggregate, None if all_of_them else frozenset(names)))
    return found


def _tables(catalog: StreamCatalog) -> dict[TableShape, None]:
    """Return the declared tables that commands append to, each once."""
    return dict.fromkeys(spec.table for spec in _append_specs(catalog))


def _append_specs(catalog: StreamCatalog) -> Iterator[AppendSpec]:
    for part in catalog.contexts.values():
        yield from (spec for spec in part.context.commands if isinstance(spec, AppendSpec))
