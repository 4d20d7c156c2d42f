"""The revisions of the database, in pages and in short; nothing is migrated here."""

from __future__ import annotations

from typing import Final

from tidemill.admin.service.access import demand_operator
from tidemill.admin.service.models import AnswerModel
from tidemill.admin.service.ports import MigrationHistory
from tidemill.admin.setup.revisions import MigrationInfo
from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.runtime.clock import Clock
from tidemill.runtime.kept_answer import KeptAnswer
from tidemill.security.principals import Principal

KEPT_S: Final = 5.0
MAX_LIMIT: Final = 1_000


class MigrationPage(AnswerModel):
    """Revisions in order: core first, parents first. `next`: what `_after` takes, null on the last page."""

    migrations: list[MigrationInfo]
    next: str | None = None


class BranchState(AnswerModel):
    """A branch. `head`: the newest revision that this version knows; `current`: the newest applied one."""

    service_name: str
    head: str
    current: str | None
    pending: list[str]


class MigrationState(AnswerModel):
    """Every branch; `up_to_date`: no revision is pending."""

    up_to_date: bool
    branches: list[BranchState]


class MigrationOverview:
    """What is applied and what is pending. Raises `RequestRefused`: `FORBIDDEN`; and `Unavailable`."""

    def __init__(self, history: MigrationHistory, clock: Clock) -> None:
        """Ask nothing."""
        self._kept = KeptAnswer(history.status, clock, max_age_s=KEPT_S)

    async def page(
        self, principal: Principal, *, after: str | None = None, limit: int = 100
    ) -> MigrationPage:
        """Return at most `limit` revisions after the named one.

        Raises `RequestRefused`: `LIMIT_TOO_LARGE`, or `BAD_PARAMETER` for an unknown revision.
        """
        demand_operator(principal)
        if not 1 <= limit <= MAX_LIMIT:
            fault = RequestFault("parameter", "_limit", f"expected 1 to {MAX_LIMIT}")
            raise RequestRefused(RequestCode.LIMIT_TOO_LARGE, f"_limit is not from 1 to {MAX_LIMIT}", fault)
        every = await self._kept.get()
        begin = 0 if after is None else _position(every, after) + 1
        page = every[begin : begin + limit]
        more = begin + limit < len(every)
        return MigrationPage(migrations=page, next=page[-1].revision if more else None)

    async def state(self, principal: Principal) -> MigrationState:
        """Return the state of each branch."""
        demand_operator(principal)
        every = await self._kept.get()
        names = dict.fromkeys(one.service_name for one in every)
        branches = [_branch(name, [one for one in every if one.service_name == name]) for name in names]
        return MigrationState(up_to_date=not any(branch.pending for branch in branches), branches=branches)


def _position(every: list[MigrationInfo], revision: str) -> int:
    for at, one in enumerate(every):
        if one.revision == revision:
            return at
    fault = RequestFault("parameter", "_after", "expected the `next` of a page")
    raise RequestRefused(RequestCode.BAD_PARAMETER, "_after names no revision", fault)


def _branch(name: str, revisions: list[MigrationInfo]) -> BranchState:
    return BranchState(
        service_name=name,
        head=revisions[-1].revision,
        current=next((one.revision for one in revisions if one.is_current), None),
        pending=[one.revision for one in revisions if one.applied_at is None],
    )
