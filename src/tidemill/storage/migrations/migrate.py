"""Migrate a database to the revisions that this version expects, or check whether it has them.

Only `upgrade` and `downgrade` change anything; services call `check` and never migrate. Alembic's version table holds
the newest revision of every branch; `tidemill_migration` beside it has a row for each one applied, with its time, so
that a service can tell that all of its own are there while a newer version has already added some.

    python -m tidemill.storage.migrations.migrate URL      upgrades to the newest revision of every branch
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import alembic.command
from alembic import op
from alembic.config import Config
from alembic.runtime.migration import MigrationInfo as AlembicStep
from sqlalchemy import Connection, text

from tidemill.admin.setup.revisions import MigrationInfo, MigrationStep, OnStep
from tidemill.domain.community import CommunityFeature
from tidemill.domain.errors import TidemillError
from tidemill.storage.migrations.applied import applied_revisions, check_encoding
from tidemill.storage.migrations.community import add_missing
from tidemill.storage.migrations.connection import MigrationLimits, Tls, connected
from tidemill.storage.migrations.folders import Contexts
from tidemill.storage.migrations.revisions import (
    VERSION_TABLE,
    alembic_config,
    branch_of,
    described,
    is_needed,
    needed_heads,
    own_revisions,
    script_directory,
)
from tidemill.storage.migrations.session import MigrationDeadlocked, our_turn, run_migrations

_CREATE_HISTORY = """
create table if not exists public.tidemill_migration (
  revision text primary key, branch text not null, description text not null,
  applied_at timestamptz not null default clock_timestamp(), applied_by text not null default session_user)
"""
_APPLIED = text(
    "insert into public.tidemill_migration (revision, branch, description) values (:id, :branch, :what)"
)
_UNDONE = text("delete from public.tidemill_migration where revision = :id")

HEADS: Final = "heads"
"""The default target of an upgrade: the newest revision of every branch that is needed."""

_SEARCH_PATH = """
select concat_ws(', ', 'public', (
  select quote_ident(nspname) from pg_extension join pg_namespace n on n.oid = extnamespace
  where extname = 'timescaledb' and nspname <> 'public'))
"""
"""Revisions call `create_hypertable` and others by name, wherever an operator has put the extension."""


async def upgrade(
    url: str,
    *,
    targets: Sequence[str] = (HEADS,),
    contexts: Contexts = None,
    on_step: OnStep | None = None,
    tls: Tls = None,
    limits: MigrationLimits | None = None,
    features: Sequence[CommunityFeature] = (),
) -> list[MigrationStep]:
    """Apply revisions until every target is reached, and return what was done.

    `url`: of a login that may create tables and roles, straight to the server (a pooler would break the lock).
    `targets`: Alembic's words, such as `heads`, `market_data@head`; `heads` are those that `contexts` need.
    `features`: what a database of TimescaleDB's Community edition gets behind its heads, where it lacks it.

    Raises:
        MigrationBlocked: a session held a lock for too long, or another migration did not end in time.
        MigrationFailed: the database refused a revision.
        UsageError, ContractError, Unavailable: a wrong target; revisions that do not fit; no server.
    """
    run = _Run(alembic.command.upgrade, targets, contexts, on_step, features if HEADS in targets else ())
    return await run.on(url, tls, limits or MigrationLimits())


def upgrade_sql(contexts: Contexts = None) -> str:
    """Return the SQL that `upgrade` would run on a database without any revision. Nothing is connected to.

    Raises: `ContractError` for revisions that do not fit.
    """
    return _Run(alembic.command.upgrade, [HEADS], contexts, None).written()


async def downgrade(
    url: str,
    *,
    targets: Sequence[str],
    contexts: Contexts = None,
    on_step: OnStep | None = None,
    tls: Tls = None,
    limits: MigrationLimits | None = None,
) -> list[MigrationStep]:
    """Undo revisions, **with all that their tables hold**, down to each target (`base`, `market_data@base`).

    Raises: what `upgrade` raises.
    """
    run = _Run(alembic.command.downgrade, targets, contexts, on_step)
    return await run.on(url, tls, limits or MigrationLimits())


async def status(
    url: str, *, contexts: Contexts = None, tls: Tls = None, limits: MigrationLimits | None = None
) -> list[MigrationInfo]:
    """Return every revision that is needed or applied, core first, parents first, and when it was applied."""
    config = alembic_config(contexts)
    own = list(own_revisions(script_directory(config)))
    async with connected(url, tls, limits or MigrationLimits(), writes=False) as connection:
        applied = await applied_revisions(connection)
    known = [each for each in own if is_needed(each, config) or each.revision in applied]
    newest = {branch_of(each): each.revision for each in known if each.revision in applied}
    return [
        MigrationInfo(
            revision=each.revision,
            service_name=branch_of(each),
            description=described(each),
            applied_at=applied.get(each.revision),
            is_current=newest.get(branch_of(each)) == each.revision,
        )
        for each in known
    ]


DEADLOCKS: Final = 5
"""How often a run is begun; what it applied before stays. Batches lock tables in another order than a revision may."""


class _Run:
    """One run of an Alembic command, and what it did."""

    def __init__(
        self,
        command: Callable[[Config, str], None],
        targets: Sequence[str],
        contexts: Contexts,
        on_step: OnStep | None,
        features: Sequence[CommunityFeature] = (),
    ) -> None:
        self._command = command
        self._config = alembic_config(contexts)
        needed: Any = needed_heads(self._config)
        self._targets = [needed if target == HEADS else target for target in targets]
        self._on_step = on_step
        self._features = features
        self._steps: list[MigrationStep] = []

    async def on(self, url: str, tls: Tls, limits: MigrationLimits) -> list[MigrationStep]:
        async with our_turn(url, tls, limits) as guard:
            check_encoding(guard.get_settings().server_encoding)
            found = replace(limits, search_path=await guard.fetchval(_SEARCH_PATH))
            await guard.execute(_CREATE_HISTORY)
            for attempt in range(1, DEADLOCKS + 1):
                try:
                    await run_migrations(url, tls, found, guard, self._work)
                except MigrationDeadlocked:
                    if attempt == DEADLOCKS:
                        raise
                else:
                    break
            if self._features:
                self._steps += await add_missing(guard, found.search_path, self._features, self._on_step)
        return self._steps

    def written(self) -> str:
        self._config.output_buffer = script = io.StringIO(f"{_CREATE_HISTORY.strip()};\n\n")
        script.seek(0, io.SEEK_END)
        self._config.attributes.update(version_table=VERSION_TABLE, on_version_apply=self._record)
        alembic.command.upgrade(self._config, self._targets[0], sql=True)
        return script.getvalue()

    def _work(self, connection: Connection) -> None:
        self._config.attributes.update(
            connection=connection, version_table=VERSION_TABLE, on_version_apply=self._record
        )
        for target in self._targets:
            self._command(self._config, target)

    def _record(self, *, ctx: Any, step: AlembicStep, heads: set[str], run_args: dict[str, Any]) -> None:
        """Write the history, in the transaction of the revision itself."""
        del ctx, heads, run_args
        revision: Any = step.up_revision
        if step.is_upgrade:
            what = {"id": revision.revision, "branch": branch_of(revision), "what": described(revision)}
            op.execute(_APPLIED.bindparams(**what))
        else:
            op.execute(_UNDONE.bindparams(id=revision.revision))
        migration_step = MigrationStep(
            revision.revision, described(revision), "up" if step.is_upgrade else "down"
        )
        self._steps.append(migration_step)
        if self._on_step is not None:
            self._on_step(migration_step)


def _say(step: MigrationStep) -> None:
    sys.stdout.write(f"{step.direction:<4} {step.revision}  {step.description}\n")


def _main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m tidemill.storage.migrations.migrate URL\n")
        return 2
    try:
        steps = asyncio.run(upgrade(sys.argv[1], on_step=_say))
    except TidemillError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{len(steps)} applied, the database is up to date\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
