"""No way leads out of the database but past a copy that we read back: every reachable state, and long histories.

`TIDEMILL_ARCHIVE_HISTORIES` (default 500; the trials take 100,000) says how many histories, a tenth of them those of
`test_walk_generations.py`; `TIDEMILL_ARCHIVE_WALK=full` walks the larger worlds too. `-s` shows the figures.
"""

import os
import sys
from dataclasses import replace
from typing import Any

import pytest

from tests.support.archive.model import Bounds
from tests.support.archive.promises import WatchedModel
from tests.support.archive.rules import Rules
from tests.support.archive.walk import histories, walk
from tidemill.domain.archive.slices import ArchiveState
from tidemill.retention import confirmations, operator_transitions, transitions
from tidemill.retention.slices import Party, Slice
from tidemill.retention.transition_table import Action, Transition, TransitionRefused

HISTORIES = int(os.environ.get("TIDEMILL_ARCHIVE_HISTORIES", "500"))
STEPS = 150

WORLDS = [
    pytest.param(Bounds(seals=1, writes=1), 4_000, id="one slice, one seal, late results"),
    pytest.param(
        Bounds(slices=2, writes=0, seals=1, memory=False, holds=False), 10_000, id="two slices of one event"
    ),
]
LARGER = [
    pytest.param(Bounds(seals=2, writes=1), 100_000, id="one slice, two seals, late results"),
    pytest.param(Bounds(slices=2, writes=0, seals=1, memory=False), 50_000, id="two slices, holds"),
    pytest.param(Bounds(seals=2, writes=2), 600_000, id="two rows written"),
    pytest.param(Bounds(seals=3, writes=1, memory=False), 10_000, id="three seals"),
    pytest.param(Bounds(slices=2, seals=1, writes=1, memory=False), 300_000, id="two slices, a row written"),
]
FULL = os.environ.get("TIDEMILL_ARCHIVE_WALK") == "full"
if FULL:
    WORLDS += LARGER


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("bounds", "at_least"), WORLDS)
def test_every_reachable_state_keeps_the_promises(bounds: Bounds, at_least: int) -> None:
    walked = walk(WatchedModel(bounds=bounds))
    sys.stdout.write(f"{bounds}: {walked.states:,} states, {walked.edges:,} edges\n")
    assert walked.fault is None
    assert walked.states > at_least, "the model has shrunk: does it still do everything?"
    assert walked.seen == set(ArchiveState) - (set() if bounds.holds else {ArchiveState.HELD})


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("bounds", "share"),
    [
        pytest.param(Bounds(seals=5, writes=8), 0.7, id="one slice"),
        pytest.param(Bounds(slices=2, seals=3, writes=6), 0.2, id="two slices"),
    ],
)
def test_long_histories_keep_the_promises(bounds: Bounds, share: float) -> None:
    walked = histories(WatchedModel(bounds=bounds), round(HISTORIES * share), STEPS, seed=20260101)
    sys.stdout.write(f"{bounds}: {walked.states:,} histories, {walked.edges:,} steps\n")
    assert walked.fault is None
    assert walked.seen == set(ArchiveState)


def test_every_state_leads_to_a_drop_if_all_work_again() -> None:
    bounds = Bounds(seals=3 if FULL else 2, writes=1, memory=False)
    assert not walk(WatchedModel(bounds=bounds), ends=True).dead


def test_a_dead_end_is_found() -> None:
    stuck = Rules(resume_held=lambda *args, **told: TransitionRefused("NEVER", "what is held stays held"))
    assert walk(WatchedModel(stuck, Bounds(seals=2, writes=0, memory=False)), ends=True).dead


# Planted mistakes: each must be found, else the walk proves nothing.


def drops_confirmed(which: Slice, *args: Any, **told: Any) -> Any:
    if which.state is ArchiveState.CONFIRMED:
        after = replace(which, state=ArchiveState.DROPPED)
        return Transition(Action.DROP, which, after, Party.SERVICE, "service")
    return transitions.drop(which, *args, **told)


def drops_unmeasured(which: Slice, *args: Any, found: Any, **told: Any) -> Any:
    return transitions.drop(which, *args, found=which.verified.found if which.verified else found, **told)


def believes_the_archiver(which: Slice, *args: Any, found: Any, **told: Any) -> Any:
    return transitions.verify(which, *args, found=which.sealed or found, **told)


def verifies_another_copy(which: Slice, *args: Any, read: Any, **told: Any) -> Any:
    return transitions.verify(which, *args, read=which.copy or read, **told)


def drops_on_time_out(which: Slice, *args: Any, **told: Any) -> Any:
    step = transitions.give_up(which, *args, **told)
    return (
        replace(step, after=replace(step.after, state=ArchiveState.DROPPED))
        if isinstance(step, Transition)
        else step
    )


def confirms_to_verified(*args: Any, **told: Any) -> Any:
    folded = confirmations.fold(*args, **told)
    steps = tuple(
        replace(step, after=replace(step.after, state=ArchiveState.VERIFIED))
        if step.action is Action.CONFIRM
        else step
        for step in folded.steps
    )
    return replace(folded, steps=steps)


def restores_anything(which: Slice, *args: Any, **told: Any) -> Any:
    return operator_transitions.restore(which, *args, **(told | {"found": which.sealed}))


def evicts_changed_rows(which: Slice, *args: Any, found: Any, **told: Any) -> Any:
    return operator_transitions.evict(which, *args, found=which.sealed or found, **told)


MISTAKES: dict[str, tuple[Rules, str]] = {
    "drops what is only confirmed": (Rules(drop=drops_confirmed), "drops from confirmed"),
    "drops without measuring again": (Rules(drop=drops_unmeasured), "copy is not equal"),
    "drops under a hold": (
        Rules(drop=lambda *args, **told: transitions.drop(*args, **(told | {"holds": ()}))),
        "under a hold",
    ),
    "drops on a time-out": (Rules(give_up=drops_on_time_out), "drops from"),
    "believes the archiver": (Rules(verify=believes_the_archiver), "counts as verified and is not"),
    "takes a confirmation for a verification": (Rules(fold=confirms_to_verified), "counts as verified"),
    "verifies another copy than the one it read": (Rules(verify=verifies_another_copy), "counts as verified"),
    "restores anything": (Rules(restore=restores_anything), "not the copy's"),
    "evicts what was changed": (Rules(evict=evicts_changed_rows), "copy is not equal"),
    "evicts under a hold": (
        Rules(evict=lambda *args, **told: operator_transitions.evict(*args, **(told | {"holds": ()}))),
        "under a hold",
    ),
    "leaves late rows behind": (Rules(opens=lambda step: False), "diverted from an open range"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_walk_finds(mistake: str) -> None:
    rules, words = MISTAKES[mistake]
    fault = walk(WatchedModel(rules, Bounds(seals=2, writes=1))).fault
    assert fault is not None
    assert words in fault


def test_a_history_finds_a_mistake_too() -> None:
    fault = histories(WatchedModel(Rules(drop=drops_confirmed)), 2000, STEPS, seed=1).fault
    assert fault is not None
    assert "drops from confirmed" in fault
