"""Whether tables are as contexts declare them: a gate before what works with them, and what to tell of misfits.

A stream whose tables misfit does not join its consumer group: another process, of a version that they fit, may take its
lanes. It is looked again every few seconds, so that it goes on by itself once they are mended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tidemill.app.deployment import Deployment
from tidemill.app.preparation import demand_migrations
from tidemill.catalog.streams import ContextStream
from tidemill.catalog.structure import Difference
from tidemill.domain.errors import TableMisfit
from tidemill.runtime.telemetry import TABLE_MISFITS, Log, logger
from tidemill.storage.catalog.structure import TableUse, differences, use_of_projection, uses_of_stream
from tidemill.storage.database.pool import Lender
from tidemill.storage.migrations.migrate import NotMigrated

CODE: Final = "TABLE_MISFIT"

_SHOWN: Final = 10

_log = logger(__name__)


@dataclass(frozen=True)
class Misfit:
    """What of a stream, or of one of its read models, cannot work: the differences, and what would mend them."""

    aggregate: str
    projection: str | None
    differences: Sequence[Difference]
    advice: str
    code: str = CODE


async def misfits(deployment: Deployment, pool: Lender) -> list[Misfit]:
    """Return what of the deployment cannot work as its tables are. Raises what `pool.connection` raises."""
    found = []
    for part in deployment.catalog.contexts.values():
        for projection, uses in _workers(part):
            if told := await _broken(pool, uses):
                advice = await _advice(deployment, told)
                found.append(Misfit(part.stream.aggregate, projection, told, advice))
    return found


def _workers(part: ContextStream) -> list[tuple[str | None, list[TableUse]]]:
    """Return who works with tables of a context: its intake, and each projection by name."""
    projections = [(each.name, [use_of_projection(each)]) for each in part.context.projections]
    return [(None, uses_of_stream(part.stream)), *projections]


async def _broken(pool: Lender, uses: Sequence[TableUse]) -> list[Difference]:
    return [each for each in await differences(pool, uses) if each.breaks]


async def _advice(deployment: Deployment, told: Sequence[Difference]) -> str:
    """Say `tidemill migrate` only where that would do something."""
    try:
        await demand_migrations(deployment)
    except NotMigrated as pending:
        return f"run `tidemill migrate`: {', '.join(pending.missing)} are not applied"
    drafts = [each.sql for each in told if each.sql is not None]
    if not drafts:
        return "make it as it is declared, or deploy a version that declares it as it is"
    return f"no migration is pending; this would mend it: {'; '.join(drafts[:_SHOWN])}"


class TableGate:
    """A `Gate`: open while the tables that a stream's commands work with are as declared."""

    def __init__(self, deployment: Deployment, part: ContextStream, pool: Lender) -> None:
        """`pool`: of the login that writes."""
        self._deployment = deployment
        self._aggregate = part.stream.aggregate
        self._uses = uses_of_stream(part.stream)
        self._pool = pool
        self._told: Sequence[Difference] = ()
        self._reason = ""
        self._advice = ""

    async def look(self) -> bool:
        """See `Gate`."""
        told = await _broken(self._pool, self._uses)
        if told and told != self._told:
            self._advice = await _advice(self._deployment, told)
            self._say("; ".join(map(str, told[:_SHOWN])))
        elif self._told and not told:
            _log.warning(Log.TABLE_FITS, aggregate=self._aggregate)
        self._told = told
        TABLE_MISFITS.labels(self._aggregate).set(len(told))
        return not told

    async def demand(self) -> None:
        """Return if the tables are as declared. Raises `TableMisfit`, and what `look` raises."""
        if not await self.look():
            raise TableMisfit("; ".join(map(str, self._told[:_SHOWN])))

    def blame(self, error: BaseException) -> bool:
        """See `Gate`."""
        if not isinstance(error, TableMisfit):
            return False
        if not self._told:
            self._reason = error.detail
            self._advice = "mend what the database said; it is tried again by itself, ever more rarely"
            self._say(error.detail)
            TABLE_MISFITS.labels(self._aggregate).set(1)
        return True

    def standing(self) -> Mapping[str, Any]:
        """See `Gate`."""
        told = [str(each) for each in self._told[:_SHOWN]] or [self._reason]
        return {"code": CODE, "differences": told, "next": self._advice}

    def _say(self, reason: str) -> None:
        _log.error(Log.TABLE_MISFIT, aggregate=self._aggregate, reason=reason, next=self._advice)
