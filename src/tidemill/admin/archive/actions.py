"""An operator's actions on the archive: hold, lift, retry, release."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tidemill.admin.archive.access import OpenAccess, operator, slice_at
from tidemill.domain.errors import UsageError
from tidemill.retention import operator_actions
from tidemill.retention.operator_actions import Held, Lifted, Released
from tidemill.retention.slices import Slice
from tidemill.retention.table_obstacles import warnings

Span = tuple[datetime | None, datetime | None]


@dataclass(frozen=True)
class GivenUp:
    """A slice that an operator gave up. `again_after`: how long its policy leaves it alone."""

    released: Released
    again_after: timedelta


@dataclass(frozen=True)
class ArchiveActions:
    """Actions; each is stored in the trail, with the operator and the reason."""

    open_access: OpenAccess

    async def hold(self, table: str, span: Span, reason: str) -> tuple[Held, tuple[str, ...]]:
        """Hold the rows of a span; return what was done, and what could drop them all the same.

        Raises:
            UsageError: the span ends before it begins.
        """
        by, (start, end) = operator(reason), span
        if start is not None and end is not None and end <= start:
            raise UsageError("--to must be later than --from")
        async with self.open_access() as access:
            name = access.policy(table).table_name
            held = await access.order(
                lambda claim: operator_actions.hold(access.store, claim, name, span, by)
            )
            return held, warnings(await access.store.facts(name))

    async def lift(self, table: str, span: Span, reason: str) -> Lifted:
        """Lift the holds that lie within a span. Raises `UsageError` if there is none."""
        by = operator(reason)
        async with self.open_access() as access:
            name = access.policy(table).table_name
            return await access.order(
                lambda claim: operator_actions.lift(access.store, claim, name, span, by)
            )

    async def retry(self, table: str, time: datetime, generation: int | None, reason: str) -> Slice:
        """Take a quarantined slice through a new copy. Raises `UsageError`."""
        by = operator(reason)
        async with self.open_access(announcing=True) as access:
            archive_slice = slice_at(
                await access.store.facts(access.policy(table).table_name), time, generation
            )
            return await access.order(
                lambda claim: operator_actions.retry(access.store, claim, archive_slice, by)
            )

    async def release(self, table: str, time: datetime, generation: int | None, reason: str) -> GivenUp:
        """Give a slice up, so that its range opens. Raises `UsageError`."""
        by = operator(reason)
        async with self.open_access(announcing=True) as access:
            policy = access.policy(table)
            archive_slice = slice_at(await access.store.facts(policy.table_name), time, generation)
            released = await access.order(
                lambda claim: operator_actions.release(access.store, claim, archive_slice, by)
            )
            return GivenUp(released, policy.again_after)
