"""Revisions of the database, for operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class MigrationInfo:
    """A revision that this version knows.

    `service_name` is its branch, `is_current` tells the newest applied one of that branch.
    """

    revision: str
    service_name: str
    description: str
    applied_at: datetime | None
    is_current: bool


@dataclass(frozen=True, slots=True)
class MigrationStep:
    """A revision that was just applied or undone."""

    revision: str
    description: str
    direction: Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class NextRevision:
    """The place at the end of a branch where a revision can be added. `earlier`: those in its folder, oldest first."""

    branch: str
    number: int
    folder: Path
    earlier: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return branch and number (`market_data_0002`), which the database records."""
        return f"{self.branch}_{self.number:04d}"


OnStep = Callable[[MigrationStep], None]
