"""What a context wants of its tables that only TimescaleDB's Community edition can do, and what stands in for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tidemill.domain.archive.policy import Retention
from tidemill.domain.errors import ContractError
from tidemill.domain.table_shape import TableShape, plain_name

_UNCOMPRESSED: Final = "chunks stay uncompressed until they leave for the archive, whose files are compressed"


@dataclass(frozen=True, kw_only=True)
class Compression:
    """Chunks that ended `after` ago are compressed, rows of equal values in `by` together, the newest first.

    `table`: an appended hypertable. `time_column`: what divides it.
    """

    table: TableShape
    after: timedelta
    by: tuple[str, ...]
    time_column: str = "time"
    instead: str = _UNCOMPRESSED

    @property
    def name(self) -> str:
        """Return what people call it."""
        return f"compression of {plain_name(self.table)}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that the table must have."""
        return (*self.by, self.time_column)

    def check(self, retention: Retention | None) -> None:
        """Raise `ContractError` for spans that make no sense."""
        del retention
        if self.after <= timedelta(0):
            raise ContractError(f"{self.name}: `after` must be positive")


@dataclass(frozen=True, kw_only=True)
class Rollup:
    """A continuous aggregate over a table: a view with a row per span of time and values of `by`.

    `view`: its name, in the schema of the table. `values`: column -> its SQL, which the context writes. It is refreshed
    every `every`, from `since` ago to `until` ago; what is older stays as it was computed, also once the rows leave.
    `instead`: what answers where there is no such view.
    """

    view: str
    table: TableShape
    by: tuple[str, ...]
    values: Mapping[str, str]
    instead: str
    span: timedelta = timedelta(hours=1)
    since: timedelta = timedelta(hours=3)
    until: timedelta = timedelta(hours=1)
    every: timedelta = timedelta(hours=1)
    time_column: str = "time"

    @property
    def name(self) -> str:
        """Return what people call it."""
        return f"continuous aggregate {self.table.schema or 'public'}.{self.view}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that the table must have."""
        return (*self.by, self.time_column)

    def check(self, retention: Retention | None) -> None:
        """Raise `ContractError` for spans that make no sense, or that reach rows which may have left."""
        if min(self.span, self.until, self.every) <= timedelta(0) or self.since < self.until + self.span:
            raise ContractError(f"{self.name}: a refresh must reach back over at least one span of time")
        if retention is not None and retention.table is self.table and self.since >= retention.after:
            raise ContractError(
                f"{self.name}: a refresh that reaches back {self.since} would lose what left after {retention.after}"
            )


CommunityFeature = Compression | Rollup


@dataclass(frozen=True, slots=True)
class EditionFeatures:
    """The edition of a database, and the names of the features that it has."""

    is_community: bool
    present: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class LackingFeature:
    """A declared feature that a database does not have. `instead`: what stands in for it. `advice`: what adds it."""

    aggregate: str
    feature: str
    instead: str
    advice: str


def lacking(
    declared: Mapping[str, Sequence[CommunityFeature]], edition: EditionFeatures
) -> list[LackingFeature]:
    """Return the declared features, by aggregate, that a database lacks.

    What was made before a move to the Apache edition is still in the catalogue, but does no work there.
    """
    working = edition.present if edition.is_community else ()
    advice = (
        "`tidemill migrate` adds it"
        if edition.is_community
        else "it needs TimescaleDB's Community edition: after the move, `tidemill migrate` adds it"
    )
    return [
        LackingFeature(aggregate, feature.name, feature.instead, advice)
        for aggregate, features in declared.items()
        for feature in features
        if feature.name not in working
    ]


def check_features(
    aggregate: str,
    features: Sequence[CommunityFeature],
    appended: Collection[TableShape],
    retention: Retention | None,
) -> None:
    """Refuse features of other tables than the context's facts, or of columns that these do not have.

    Raises:
        ContractError: the message says which.
    """
    for feature in features:
        if not any(feature.table is table for table in appended):
            raise ContractError(f"context {aggregate}: {feature.name}, but no command appends to its table")
        if unknown := [name for name in feature.columns if name not in feature.table.columns]:
            raise ContractError(f"{feature.name}: the table has no {', '.join(unknown)}")
        feature.check(retention)
