"""Retention as a context declares it: what leaves, after how long, and at what rate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Any

from pydantic import Field

from tidemill.domain.errors import ContractError
from tidemill.domain.messages import Message
from tidemill.domain.table_shape import TableShape, plain_name

_DAY = timedelta(days=1)
_LONGEST = 365_000 * _DAY  # a thousand years: a time plus this must still be a valid time


class LateRule(StrEnum):
    """The handling of a row for a range that is sealed or archived."""

    DIVERT = "divert"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A span of every day, in UTC, in which nothing is sealed; `start` later than `end` spans midnight."""

    start: time
    end: time

    def __post_init__(self) -> None:
        """Refuse a span that is empty, or that has a time zone of its own."""
        if self.start == self.end:
            raise ContractError("quiet hours that end when they start: to stop archiving, set enabled=False")
        if self.start.tzinfo or self.end.tzinfo:
            raise ContractError("quiet hours are in UTC: give times without a zone")

    def until(self, now: datetime) -> datetime | None:
        """Return when the span that contains `now` ends, None outside it."""
        clock = now.astimezone(UTC)
        at = clock.time()
        spans_midnight = self.end < self.start
        if (at >= self.start, at < self.end).count(True) < (1 if spans_midnight else 2):
            return None
        end = datetime.combine(clock.date(), self.end, UTC)
        return end if end > clock else end + _DAY


@dataclass(frozen=True)
class Retention:
    """A table's policy. Chunks leave that ended `after` ago, once they were not written to for `quiet`.

    The table's migration has to `call tm.prepare_late('schema.table')`, and each one that alters it: nothing is sealed
    before the table for late rows exists.

    `table`: a SQLAlchemy Core table. `time_column`: its time dimension, a timestamptz. `late`: the handling of
    late rows. `quiet`: by the server's count of written rows, from when the worker first saw the chunk.
    `most_seals`: how many ranges are sealed at once. `longest_seal`: a range that is sealed longer without a verified
    copy is opened again. `bytes_per_s`: the rate that the archiver is asked to keep. `again_after`: how long a range
    that was given up is left alone.
    """

    table: TableShape
    after: timedelta
    time_column: str = "time"
    quiet: timedelta = timedelta(hours=1)
    late: LateRule = LateRule.DIVERT
    most_seals: int = 8
    longest_seal: timedelta = _DAY
    bytes_per_s: int | None = None
    quiet_hours: QuietHours | None = None
    again_after: timedelta = _DAY
    enabled: bool = True

    def __post_init__(self) -> None:
        """Refuse what would only fail later, on the first seal."""
        if self.after <= timedelta(0):
            raise ContractError(f"retention after {self.after}: the time must be positive")
        if min(self.quiet, self.again_after) < timedelta(0):
            raise ContractError("retention: quiet and again_after cannot be negative")
        if self.longest_seal <= timedelta(0) or self.most_seals < 1:
            raise ContractError("retention: longest_seal and most_seals must be positive")
        if self.bytes_per_s is not None and self.bytes_per_s < 1:
            raise ContractError("retention: bytes_per_s must be positive, or None for no limit")
        if self.time_column not in self.table.columns:
            raise ContractError(f"retention of {self.table_name}: it has no column {self.time_column!r}")
        kind = self.table.columns[self.time_column].type
        if not getattr(kind, "timezone", False) or kind.python_type is not datetime:
            raise ContractError(
                f"retention of {self.table_name}: {self.time_column} is {kind}, not timestamptz. Ranges are instants: "
                "make it DateTime(timezone=True), in the table too"
            )

    @property
    def table_name(self) -> str:
        """Return `schema.table`."""
        return plain_name(self.table)

    def adjusted(self, policy: RetentionPolicy) -> Retention:
        """Return this policy with the fields of a stored or received one; its None fields change nothing."""
        told: dict[str, Any] = {
            "quiet": _seconds(policy.quiet_s),
            "late": policy.late,
            "most_seals": policy.most_seals,
            "longest_seal": _seconds(policy.longest_seal_s),
            "bytes_per_s": policy.bytes_per_s,
        }
        return replace(
            self,
            enabled=policy.enabled,
            after=timedelta(days=policy.retention_period_days),
            **{name: value for name, value in told.items() if value is not None},
        )

    def told(self, fields: Mapping[str, Any]) -> Retention:
        """Return this policy with some fields of a `RetentionPolicy`; missing fields change nothing.

        Raises:
            ValidationError: they are not fields of a policy.
        """
        own = RetentionPolicy.of(self).model_dump()
        adjusted = self.adjusted(RetentionPolicy.model_validate(own | dict(fields)))
        if "retention_period_days" in fields:
            return adjusted
        return replace(adjusted, after=self.after)  # which need not be whole days


class RetentionPolicy(Message):
    """The specification's policy: its two fields, and optional further ones."""

    enabled: bool
    retention_period_days: int = Field(gt=0, le=_LONGEST.days)
    quiet_s: float | None = Field(default=None, ge=0, le=_LONGEST.total_seconds())
    late: LateRule | None = None
    most_seals: int | None = Field(default=None, gt=0)
    longest_seal_s: float | None = Field(default=None, gt=0, le=_LONGEST.total_seconds())
    bytes_per_s: int | None = Field(default=None, gt=0)

    @classmethod
    def of(cls, retention: Retention) -> RetentionPolicy:
        """Return what a context declares, in the specification's form; the days are rounded up."""
        return cls(
            enabled=retention.enabled,
            retention_period_days=-(-retention.after // _DAY),
            quiet_s=retention.quiet.total_seconds(),
            late=retention.late,
            most_seals=retention.most_seals,
            longest_seal_s=retention.longest_seal.total_seconds(),
            bytes_per_s=retention.bytes_per_s,
        )


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)
