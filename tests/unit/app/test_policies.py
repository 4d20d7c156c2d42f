"""What a deployment's settings do to the policies that its contexts declare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tidemill.app.deployment import Deployment
from tidemill.app.retention_process import policies_of
from tidemill.contexts import market_data
from tidemill.settings import Settings

SERVERS = {"database": {"url": "postgresql://a:b@127.0.0.1:1/c"}, "kafka": {"bootstrap": "127.0.0.1:1"}}


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
