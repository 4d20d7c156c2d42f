"""The slices of requests in memory: obey the same conformance suite as the registry."""

from __future__ import annotations

from tests.fakes.commands import MemoryWork
from tidemill.domain.archive.slices import ArchiveState, SliceId
from tidemill.retention.ports import Overtaken
from tidemill.retention.slices import Slice
from tidemill.retention.transition_table import Transition


class MemorySlices:
    """`RequestedSlices` in the tables of a batch in memory."""

    def __init__(self, work: MemoryWork) -> None:
        self._held: dict[SliceId, Slice] = work.tables.joined.setdefault("slices", {})

    async def of_event(self, event_id: str) -> list[Slice]:
        held = (
            each for each in self._held.values() if each.event_id == event_id or event_id in each.superseded
        )
        return sorted(held, key=lambda each: (each.id.start, each.id.generation))

    async def store(self, step: Transition) -> None:
        held, before = self._held.get(step.before.id), step.before
        if held is None and before.state is not ArchiveState.LIVE:
            raise Overtaken(f"{before.id} is not there")
        if held is not None and _version(held) != _version(before):
            raise Overtaken(f"{before.id} is not {before.state} any more")
        self._held[step.after.id] = step.after


def _version(of: Slice) -> tuple[ArchiveState, int, int]:
    return of.state, of.seal, of.attempt
