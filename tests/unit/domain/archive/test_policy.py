"""Retention as contexts declare it, and in the specification's form."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import TIMESTAMP, BigInteger, Column, Date, DateTime, MetaData, Table, Text, Time
from sqlalchemy.types import TypeEngine

from tidemill.contexts.market_data import context, ticks
from tidemill.domain.archive.policy import LateRule, QuietHours, Retention, RetentionPolicy
from tidemill.domain.context import Context
from tidemill.domain.errors import ContractError

TICKS = Table("ticks", MetaData(), Column("time", DateTime(timezone=True)), Column("symbol", Text))
DAY = timedelta(days=1)
POLICY = Retention(table=TICKS, after=30 * DAY)
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    [
        {"after": timedelta(0)},
        {"quiet": -DAY},
        {"again_after": -DAY},
        {"longest_seal": timedelta(0)},
        {"most_seals": 0},
        {"bytes_per_s": 0},
        {"time_column": "at"},
    ],
    ids=str,
)
def test_a_wrong_policy_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ContractError):
        replace(POLICY, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind", [DateTime(), TIMESTAMP(), Date(), Time(timezone=True), BigInteger(), None], ids=repr
)
def test_a_time_column_of_another_type_is_refused(kind: TypeEngine[Any] | None) -> None:
    """The first seal would compare its naive times with those of commands."""
    ticks = Table("ticks", MetaData(), Column("time", kind))
    with pytest.raises(ContractError, match="not timestamptz"):
        replace(POLICY, table=ticks)
    instants = Table("ticks", MetaData(), Column("time", TIMESTAMP(timezone=True)))
    assert replace(POLICY, table=instants).time_column == "time"


def test_a_table_is_named_with_its_schema() -> None:
    assert POLICY.table_name == "public.ticks"
    elsewhere = Table("ticks", MetaData(schema="audit"), Column("time", DateTime(timezone=True)))
    assert replace(POLICY, table=elsewhere).table_name == "audit.ticks"


@pytest.mark.parametrize(
    ("start", "end", "hour", "until"),
    [
        (8, 18, 7, None),
        (8, 18, 8, 18),
        (8, 18, 17, 18),
        (8, 18, 18, None),
        (22, 6, 21, None),
        (22, 6, 22, 30),
        (22, 6, 0, 6),
        (22, 6, 6, None),
        (22, 0, 23, 24),
    ],
)
def test_quiet_hours_end(start: int, end: int, hour: int, until: int | None) -> None:
    found = QuietHours(time(start), time(end)).until(MIDNIGHT + timedelta(hours=hour))
    assert found == (None if until is None else MIDNIGHT + timedelta(hours=until))


def test_quiet_hours_are_a_span_in_utc() -> None:
    with pytest.raises(ContractError):
        QuietHours(time(8), time(8))
    with pytest.raises(ContractError):
        QuietHours(time(8, tzinfo=UTC), time(9))


def test_the_specifications_two_fields_are_enough() -> None:
    adjusted = replace(POLICY, quiet=DAY).adjusted(RetentionPolicy(enabled=False, retention_period_days=90))
    assert (adjusted.enabled, adjusted.after, adjusted.quiet) == (False, 90 * DAY, DAY)


def test_a_policy_survives_the_way_there_and_back() -> None:
    full = replace(
        POLICY, late=LateRule.REJECT, bytes_per_s=10**6, longest_seal=DAY / 2, quiet=DAY / 4, most_seals=3
    )
    told = RetentionPolicy.of(full)
    assert list(told.model_dump())[:2] == ["enabled", "retention_period_days"]
    assert POLICY.adjusted(told) == full
    assert RetentionPolicy.of(replace(POLICY, after=DAY * 1.5)).retention_period_days == 2, (
        "rows stay rather too long"
    )


@pytest.mark.parametrize(
    "wrong", [{"retention_period_days": 0}, {"retention_period_days": 1, "most_seals": 0}]
)
def test_a_policy_from_outside_is_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        RetentionPolicy(enabled=True, **wrong)  # type: ignore[arg-type]


def test_market_data_leaves_after_two_years() -> None:
    assert context.retention is not None
    assert (context.retention.table, context.retention.after) == (ticks, 730 * DAY)


def test_only_appended_tables_leave() -> None:
    with pytest.raises(ContractError, match=r"public\.ticks, but no command appends to it"):
        Context(aggregate="ticks", key=str, commands=context.commands, retention=POLICY)
