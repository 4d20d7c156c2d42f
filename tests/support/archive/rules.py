"""What the archive's model asks: the machine as it is, or with a mistake planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidemill.retention import confirmations, operator_transitions, transitions
from tidemill.retention.transition_table import Transition


@dataclass(frozen=True)
class Rules:
    """What decides: the real functions, or planted mistakes in their place."""

    choose: Callable[..., Any] = transitions.choose
    refuse: Callable[..., Any] = transitions.refuse
    seal: Callable[..., Any] = transitions.seal
    measure: Callable[..., Any] = transitions.measure
    request: Callable[..., Any] = transitions.request
    request_again: Callable[..., Any] = transitions.request_again
    give_up: Callable[..., Any] = transitions.give_up
    verify: Callable[..., Any] = transitions.verify
    quarantine: Callable[..., Any] = transitions.quarantine
    reseal: Callable[..., Any] = transitions.reseal
    drop: Callable[..., Any] = transitions.drop
    hold: Callable[..., Any] = operator_transitions.hold
    resume_held: Callable[..., Any] = operator_transitions.resume_held
    retry: Callable[..., Any] = operator_transitions.retry
    release: Callable[..., Any] = operator_transitions.release
    restore: Callable[..., Any] = operator_transitions.restore
    evict: Callable[..., Any] = operator_transitions.evict
    quarantine_changed: Callable[..., Any] = operator_transitions.quarantine_changed
    fold: Callable[..., Any] = confirmations.fold
    opens: Callable[[Transition], bool] = lambda step: step.opens
