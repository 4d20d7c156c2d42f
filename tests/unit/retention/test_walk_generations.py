"""Each row is in the table, among the late rows or in the lake, once, through all generations of a range.

A tenth of `TIDEMILL_ARCHIVE_HISTORIES` (default 500; the trials take 100,000) is lived here;
`TIDEMILL_ARCHIVE_WALK=full` walks the larger worlds too. `-s` shows the figures.
"""

import os
import sys
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from tests.support.archive.range_model import RangeBounds, RangeRules
from tests.support.archive.range_promises import WatchedRange
from tests.support.archive.walk import histories, walk
from tidemill.domain.archive.slices import ArchiveState, Source
from tidemill.retention import (
    eviction,
    explanations,
    operator_transitions,
    planner,
    restore_plan,
    transitions,
)
from tidemill.retention.eviction import Leaving
from tidemill.retention.slices import Slice, together
from tidemill.retention.transition_table import Transition, TransitionRefused

HISTORIES = int(os.environ.get("TIDEMILL_ARCHIVE_HISTORIES", "500"))
STEPS = 150

SMALL = RangeBounds(external_writes=True, deletes=True)
ALONE = RangeBounds(generations=1, lies=True, deletes=True)
THREE = RangeBounds(generations=3, seals=1, writes=2, external_writes=True)
WORLDS = [
    pytest.param(SMALL, 10_000, id="a late row, strangers, superseded copies deleted"),
    pytest.param(THREE, 1_500, id="three generations"),
    pytest.param(ALONE, 400, id="one generation, confirmations name any copy, superseded copies deleted"),
]
LARGER = [
    pytest.param(
        replace(ALONE, generations=2), 30_000, id="confirmations name any copy, superseded ones deleted"
    ),
    pytest.param(RangeBounds(writes=2, external_writes=True), 50_000, id="two late rows, strangers"),
    pytest.param(RangeBounds(generations=3, writes=2), 300_000, id="three generations, two seals"),
]
if os.environ.get("TIDEMILL_ARCHIVE_WALK") == "full":
    WORLDS += LARGER

SEEN = set(ArchiveState) - {ArchiveState.LIVE, ArchiveState.ELIGIBLE, ArchiveState.HELD}
"""All but what lasts no longer than a transaction here, and what the first model has."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("bounds", "at_least"), WORLDS)
def test_every_reachable_range_keeps_the_promises_and_may_leave(bounds: RangeBounds, at_least: int) -> None:
    model = WatchedRange(bounds=bounds)
    walked = walk(model, ends=True)
    sys.stdout.write(f"{bounds}: {walked.states:,} states, {walked.edges:,} edges\n")
    assert walked.fault is None
    assert not walked.dead
    assert walked.states > at_least, "the model has shrunk: does it still do everything?"
    assert walked.seen == SEEN
    restored = {(each.id.generation, each.source) for each in model.slices if each.restore_until}
    assert set([(1, Source.CHUNK), (2, Source.LATE)][: bounds.generations]) <= restored


@pytest.mark.timeout(3600)
def test_long_histories_of_a_range_keep_the_promises() -> None:
    bounds = RangeBounds(generations=5, seals=4, writes=8, attempts=2, external_writes=True, deletes=True)
    walked = histories(WatchedRange(bounds=bounds), HISTORIES // 10, STEPS, seed=20260101)
    sys.stdout.write(f"{bounds}: {walked.states:,} histories, {walked.edges:,} steps\n")
    assert walked.fault is None
    assert walked.seen == SEEN


# Planted mistakes: each must be found, else the walk proves nothing.


def drops_for_an_old_proof(which: Slice, at: datetime, **told: Any) -> Any:
    return transitions.drop(which, which.verified.at if which.verified else at, **told)


def evicts_for_old_proofs(slices: Any, at: datetime, **told: Any) -> Leaving:
    proofs = [replace(each, verified=replace(each.verified, at=at)) for each in slices]
    return eviction.leave(proofs, at, **told)


def evicts_the_first_alone(*args: Any, **told: Any) -> Leaving:
    leaving = eviction.leave(*args, **told)
    return replace(leaving, moves=leaving.moves[:1])


def evicts_what_it_can(slices: Any, at: datetime, **told: Any) -> Leaving:
    others = [[other for other in slices if other != each] for each in slices]
    each_alone = zip(slices, others, strict=True)
    return Leaving(
        tuple(operator_transitions.evict(each, at, beside=beside, **told) for each, beside in each_alone)
    )


def drops_rows_that_were_changed(slices: Any, *args: Any, **told: Any) -> Leaving:
    return replace(eviction.leave(slices, *args, **told), chunk=slices[0])


def evicts_without_the_others(slices: Any, at: datetime, **told: Any) -> Leaving:
    moves = tuple(operator_transitions.evict(each, at, **told) for each in slices)
    refused = tuple(moved for moved in moves if isinstance(moved, TransitionRefused))
    return Leaving(refused) if refused else eviction.leave(slices, at, **told)


def restores_one_generation(*args: Any) -> Any:
    return [replace(back, slices=back.slices[:1]) for back in restore_plan.ranges_back(*args)]


def restores_beside_external_writes(facts: Any, *args: Any) -> Any:
    return restore_plan.ranges_back(replace(facts, chunks=()), *args)


def restores_anything(which: Slice, *args: Any, beside: Any, **told: Any) -> Any:
    copies = [each.verified.found for each in (which, *beside)]
    return operator_transitions.restore(which, *args, beside=beside, **(told | {"found": together(copies)}))


def all_but(state: ArchiveState, slices: Any) -> Any:
    return [each for each in slices if each.state is not state]


def retries_beside_restored(which: Slice, slices: Any) -> str | None:
    return explanations.in_the_way(which, all_but(ArchiveState.RESTORED, slices))


def retries_beside_sealed(which: Slice, slices: Any) -> str | None:
    return explanations.in_the_way(which, all_but(ArchiveState.SEALED, slices))


def plans_without_looking(policy: Any, facts: Any, **told: Any) -> Any:
    """As if all that is closed were gone: nothing in the range is waited for."""
    gone = tuple(
        replace(each, state=ArchiveState.DROPPED) if each.is_closed else each for each in facts.slices
    )
    return planner.plan(policy, replace(facts, slices=gone), **told)


def supersedes_itself(*args: Any, event_id: str, **told: Any) -> Any:
    step = transitions.request(*args, event_id=event_id, **told)
    return (
        replace(step, after=replace(step.after, superseded=(*step.after.superseded, event_id)))
        if isinstance(step, Transition)
        else step
    )


MISTAKES: dict[str, tuple[RangeRules, str]] = {
    "drops for an old proof": (RangeRules(drop=drops_for_an_old_proof), "drop with an old proof"),
    "evicts for old proofs": (RangeRules(leave=evicts_for_old_proofs), "evict with an old proof"),
    "evicts one generation only": (RangeRules(leave=evicts_the_first_alone), "evict of rows"),
    "evicts the generations whose proof is new": (RangeRules(leave=evicts_what_it_can), "evict of rows"),
    "evicts what was changed": (RangeRules(leave=drops_rows_that_were_changed), "without a tombstone"),
    "restores one generation only": (RangeRules(ranges_back=restores_one_generation), "back in part"),
    "restores beside what strangers wrote": (
        RangeRules(ranges_back=restores_beside_external_writes),
        "tombstone",
    ),
    "restores anything": (RangeRules(restore=restores_anything), "not the copies'"),
    "retries beside what is restored": (
        RangeRules(in_the_way=retries_beside_restored),
        "under way beside what is restored",
    ),
    "retries beside what is sealed": (RangeRules(in_the_way=retries_beside_sealed), "two slices of a range"),
    "plans without a look at the range": (RangeRules(plan=plans_without_looking), "under way"),
    "adopts no late rows": (RangeRules(adopts=lambda which: False), "sealed without them"),
    "adopts late rows into a chunk's slice": (
        RangeRules(adopts=lambda which: True),
        "belong to a slice that does not keep them",
    ),
    "returns late rows while a sibling is closed": (
        RangeRules(keeps_late=lambda others: False),
        "into a closed range",
    ),
    "leaves late rows behind": (RangeRules(opens=lambda step: False), "diverted from an open range"),
    "takes what another request left": (
        RangeRules(why_not_own=lambda *told: None),
        "a copy counts as verified and is not equal",
    ),
    "supersedes the present request": (RangeRules(request=supersedes_itself), "is not equal"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_walk_finds(mistake: str) -> None:
    rules, words = MISTAKES[mistake]
    faults = (walk(WatchedRange(rules, bounds)).fault for bounds in (THREE, ALONE, SMALL))
    fault = next((each for each in faults if each is not None), None)
    assert fault is not None
    assert words in fault


DEAD_ENDS: dict[str, RangeRules] = {
    "evicts each generation as if it were alone": RangeRules(leave=evicts_without_the_others),
    "retries nothing beside another": RangeRules(
        in_the_way=lambda which, slices: "others" if len(slices) > 1 else None
    ),
    "forgets late rows": RangeRules(
        plan=lambda policy, facts, **told: planner.plan(policy, replace(facts, late=()), **told)
    ),
    "never seals again": RangeRules(
        reseal=lambda *args, **told: TransitionRefused("NEVER", "what is sealed stays sealed")
    ),
}


@pytest.mark.parametrize("mistake", DEAD_ENDS)
def test_the_walk_finds_that_nothing_leaves_when_the_archive(mistake: str) -> None:
    walked = walk(WatchedRange(DEAD_ENDS[mistake], RangeBounds(external_writes=True)), ends=True)
    assert walked.fault is None
    assert walked.dead


def test_a_history_of_a_range_finds_a_mistake_too() -> None:
    bounds = RangeBounds(generations=4, seals=3, writes=4)
    rules = RangeRules(keeps_late=lambda others: False)
    fault = histories(WatchedRange(rules, bounds), 2000, STEPS, seed=1).fault
    assert fault is not None
    assert "into a closed range" in fault
