"""What a deployment's settings do to the policies that its contexts declare."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidemill.app.deployment import Deployment
from tidemill.app.processes.retention import policies_of
from tidemill.contexts import market_data
from tidemill.domain.archive.policy import LateRule, Retention
from tidemill.domain.errors import UsageError
from tidemill.retention.planner import ChunkFacts, Facts, plan
from tidemill.settings import Settings

SERVERS = {"database": {"url": "postgresql://a:b@127.0.0.1:1/c"}, "kafka": {"bootstrap": "127.0.0.1:1"}}

TABLE = "public.market_data"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def policy(**retention: Any) -> Retention:
    settings = Settings.model_validate(SERVERS | {"retention": retention})
    [found] = policies_of(Deployment.of(settings, (market_data.context,)))
    return found


def rate(declared: int | None, **retention: Any) -> int | None:
    context = market_data.context
    assert context.retention is not None
    context = replace(context, retention=replace(context.retention, bytes_per_s=declared))
    settings = Settings.model_validate(SERVERS | {"retention": retention})
    [policy] = policies_of(Deployment.of(settings, (context,)))
    return policy.bytes_per_s


@pytest.mark.parametrize(
    ("declared", "set_to", "held_to"), [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 5), (9, 7, 7)]
)
def test_the_slower_of_context_and_settings_holds(
    declared: int | None, set_to: int | None, held_to: int | None
) -> None:
    assert rate(declared, max_bytes_per_second=set_to) == held_to


def told(**fields: Any) -> dict[str, str]:
    return {"policies": json.dumps({TABLE: fields})}


def test_a_policy_that_is_set_holds_instead_of_the_declared_one() -> None:
    found = policy(**told(enabled=False, retention_period_days=90, quiet_s=60, late="reject", most_seals=2))
    declared = replace(policy(), enabled=False, quiet=timedelta(minutes=1), most_seals=2)
    assert found == replace(declared, after=timedelta(days=90), late=LateRule.REJECT)


def test_what_is_not_named_stays_as_it_is_declared() -> None:
    assert policy(**told(enabled=False)) == replace(policy(), enabled=False)
    context = market_data.context
    assert context.retention is not None
    context = replace(context, retention=replace(context.retention, after=timedelta(hours=36)))
    settings = Settings.model_validate(SERVERS | {"retention": told(most_seals=2)})
    [found] = policies_of(Deployment.of(settings, (context,)))
    assert (found.after, found.most_seals) == (timedelta(hours=36), 2), "not rounded up to whole days"


def test_a_table_that_is_switched_off_waits() -> None:
    span = (datetime(2010, 1, 1, tzinfo=UTC), datetime(2010, 1, 8, tzinfo=UTC))
    facts = Facts(TABLE, chunks=(ChunkFacts("a.b", *span, 1, last_write=span[1]),))
    for enabled, codes in ((True, []), (False, ["DISABLED"])):
        found = plan(policy(**told(enabled=enabled)), facts, as_of=NOW, now=NOW)
        assert [each.code for each in found.waiting] == codes


def test_those_who_write_late_rows_are_told_the_same() -> None:
    settings = Settings.model_validate(SERVERS | {"retention": told(late="reject")})
    (part,) = Deployment.of(settings, (market_data.context,)).catalog.contexts.values()
    assert part.context.retention is not None
    assert part.context.retention.late is LateRule.REJECT


def test_a_policy_for_a_table_that_does_not_leave_is_refused_by_name() -> None:
    wrong = {"policies": json.dumps({"public.quotes": {"enabled": False}})}
    with pytest.raises(
        UsageError, match=r"TIDEMILL_RETENTION_POLICIES: .*public\.quotes.*public\.market_data"
    ):
        policy(**wrong)
