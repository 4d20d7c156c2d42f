"""The end of a request: announced once, in the transaction that ends its last slice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from tidemill.domain.archive.messages import ArchivalStatus
from tidemill.domain.archive.slices import SliceId
from tidemill.retention import requests
from tidemill.retention.grouping import settled
from tidemill.retention.ports import ArchiveWork
from tidemill.retention.slices import Slice
from tidemill.retention.transition_table import Action, Transition

_ENDING: Final = frozenset({Action.DROP, Action.GIVE_UP, Action.RESEAL, Action.RETRY, Action.RELEASE})
"""After these a slice is no longer in progress for its request."""

_MAX_REASON: Final = 2000


async def announce_ends(work: ArchiveWork, steps: Iterable[Transition]) -> None:
    """Announce the results of the requests that these steps have ended; they were stored in this transaction."""
    ended: dict[str, list[Transition]] = defaultdict(list)
    for step in steps:
        if step.action in _ENDING and step.before.event_id is not None:
            ended[step.before.event_id].append(step)
    for event_id, of_event in ended.items():
        dropped = await work.dropped_under(event_id)
        if any(step.action is Action.DROP or step.before.id not in dropped for step in of_event):
            await _announce_end(work, event_id, dropped)  # else they left under it before, and were restored


async def _announce_end(work: ArchiveWork, event_id: str, dropped: Collection[SliceId]) -> None:
    slices = await work.of_event(event_id)
    status = settled(event_id, slices, dropped)
    if status is not None:
        why = None if status is ArchivalStatus.COMPLETED else _why(slices, dropped)
        work.announce(requests.settled(event_id, slices, status, work.at, why))


def _why(slices: Sequence[Slice], dropped: Collection[SliceId]) -> str:
    """Return the reasons of the slices that stay, each once."""
    reasons = [each.reason or "it is requested again" for each in slices if each.id not in dropped]
    return "; ".join(dict.fromkeys(reasons))[:_MAX_REASON]
