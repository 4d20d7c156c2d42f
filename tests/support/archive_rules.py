"""What the archive's model asks: the machine as it is, or with a mistake planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidemill.retention import confirmations, interventions, machine
from tidemill.retention.transitions import Step


@dataclass(frozen=True)
class Rules:
    """What decides: the real functions, or planted mistakes in their place."""

    choose: Callable[..., Any] = machine.choose
    refuse: Callable[..., Any] = machine.refuse
    seal: Callable[..., Any] = machine.seal
    measure: Callable[..., Any] = machine.measure
    request: Callable[..., Any] = machine.request
    request_again: Callable[..., Any] = machine.request_again
    give_up: Callable[..., Any] = machine.give_up
    verify: Callable[..., Any] = machine.verify
    quarantine: Callable[..., Any] = machine.quarantine
    reseal: Callable[..., Any] = machine.reseal
    drop: Callable[..., Any] = machine.drop
    hold: Callable[..., Any] = interventions.hold
    let_go: Callable[..., Any] = interventions.let_go
    retry: Callable[..., Any] = interventions.retry
    release: Callable[..., Any] = interventions.release
    restore: Callable[..., Any] = interventions.restore
    evict: Callable[..., Any] = interventions.evict
    spoil: Callable[..., Any] = interventions.spoil
    fold: Callable[..., Any] = confirmations.fold
    opens: Callable[[Step], bool] = lambda step: step.opens
