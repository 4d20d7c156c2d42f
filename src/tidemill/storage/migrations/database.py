"""The migrations of a deployment's database: `admin.setup.ports.Migrations`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tidemill.admin.setup.revisions import MigrationInfo, MigrationStep, NextRevision, OnStep
from tidemill.domain.community import CommunityFeature
from tidemill.storage.migrations import migrate, revisions
from tidemill.storage.migrations.applied import AppliedMigrationDatabase, Server


class MigrationDatabase(AppliedMigrationDatabase):
    """The applied and pending revisions of a database."""

    def __init__(
        self,
        *,
        owner: Server,
        service: Server,
        contexts: Mapping[str, Path | None],
        features: Sequence[CommunityFeature] = (),
    ) -> None:
        """`owner`: of a login that may create tables and roles. `service`: of one that may read the history.

        `contexts`: the name of each chosen context -> the folder of its revisions, None for a built-in one.
        `features`: what they want of TimescaleDB's Community edition.
        """
        super().__init__(service, contexts)
        self._features = features
        self._owner = owner

    async def upgrade(self, targets: Sequence[str], on_step: OnStep) -> list[MigrationStep]:
        url, tls = self._owner()
        return await migrate.upgrade(
            url,
            targets=targets,
            contexts=self._contexts,
            on_step=on_step,
            tls=tls,
            features=self._features,
        )

    async def downgrade(self, targets: Sequence[str], on_step: OnStep) -> list[MigrationStep]:
        url, tls = self._owner()
        return await migrate.downgrade(
            url, targets=targets, contexts=self._contexts, on_step=on_step, tls=tls
        )

    async def status(self) -> list[MigrationInfo]:
        url, tls = self._owner()
        return await migrate.status(url, contexts=self._contexts, tls=tls)

    def sql(self) -> str:
        return migrate.upgrade_sql(self._contexts)

    def draft(self, branch: str, about: str, *, folder: Path | None) -> Path:
        return revisions.draft(branch, about, folder=folder)

    def next_revision(self, branch: str, *, folder: Path | None) -> NextRevision:
        return revisions.next_revision(branch, folder)
