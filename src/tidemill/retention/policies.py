"""What a deployment makes of the policies that its contexts declare. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from tidemill.domain.archive.policy import Retention


def in_force(
    declared: Iterable[Retention], *, max_bytes_per_s: int | None, is_rehearsal: bool
) -> list[Retention]:
    """Return the policies as they hold now: a rehearsal with a time of its own does not wait for quiet."""
    found = [_held_back(each, max_bytes_per_s) for each in declared]
    return [without_quiet(each) for each in found] if is_rehearsal else found


def without_quiet(policy: Retention) -> Retention:
    """Return a policy for a rehearsal with a time of its own, which does not wait for quiet."""
    return replace(policy, quiet=timedelta(0))


def _held_back(policy: Retention, bytes_per_s: int | None) -> Retention:
    rates = [rate for rate in (policy.bytes_per_s, bytes_per_s) if rate is not None]
    return replace(policy, bytes_per_s=min(rates, default=None))
