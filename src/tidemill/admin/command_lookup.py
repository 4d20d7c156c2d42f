"""Looking up a command: its outcome, its events, its repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any
from uuid import UUID

from tidemill.admin.lanes.states import find_lane
from tidemill.admin.ports import CommandLog, LaneReader, PackEntries
from tidemill.admin.records.ports import RecordDecoder, RecordDecoders
from tidemill.admin.rows import CommandEntry, LaneState, RepeatEntry, SentEntry
from tidemill.catalog.streams import StreamCatalog
from tidemill.domain.errors import Unreadable, UsageError
from tidemill.domain.identity import event_id, identify
from tidemill.domain.lane import TopicRole
from tidemill.domain.messages import Outcome
from tidemill.outbox.pack import Pack


@dataclass(frozen=True)
class EventShown:
    """An event of a command; `fields` is None if it has left the outbox, or cannot be read."""

    event_id: str
    type: str
    sequence: int
    fields: Mapping[str, Any] | None


@dataclass(frozen=True)
class CommandShown:
    """What became of a command."""

    command_id: str
    outcome: Outcome
    entry: CommandEntry
    record_offset: int | None = None
    key: bytes | None = None
    correlation: str | None = None
    published: bool = False
    events: Sequence[EventShown] = ()
    repeats: Sequence[RepeatEntry] = field(default_factory=tuple)


@dataclass(frozen=True)
class CommandLookup:
    """Looks commands up in the log."""

    catalog: StreamCatalog
    _: KW_ONLY
    log: CommandLog
    lanes: LaneReader
    decoders: RecordDecoders
    entries: PackEntries

    async def show(self, command_id: str, service: str | None, *, repeats: int) -> list[CommandShown]:
        """Return what became of a command; nothing if the log does not know it.

        `repeats`: at most so many of them, 0 for none.

        Raises:
            UsageError: the id is not a UUID, and its service is not given.
        """
        identity = identity_of(command_id, service)
        lanes = {state.lane: state for state in await self.lanes.lanes()}
        again = await self.log.repeats(identity, repeats) if repeats else ()
        return [
            replace(await self._shown(entry, lanes[entry.lane], command_id), repeats=again)
            for entry in await self.log.command(identity)
        ]

    async def at(self, lane: str, position: int) -> CommandShown:
        """Return what became of the record at a position of a lane, named by its id or as `AGGREGATE/PARTITION`.

        Raises:
            UsageError: there is no such lane, or its log does not hold the position.
        """
        state = await find_lane(self.lanes, lane)
        entry = await self.log.logged_at(state.lane, position)
        if entry is None:
            raise UsageError(
                f"the log of lane {state.name} holds no position {position}: it ends with {state.position}, and a "
                "generation leaves after the duplicate horizon"
            )
        return await self._shown(entry, state, str(entry.command_id or "-"))

    async def _shown(self, entry: CommandEntry, state: LaneState, command_id: str) -> CommandShown:
        stored = await self.log.sent(entry.lane, entry.position)
        sent = self.entries(stored, entry.position) if isinstance(stored, Pack) else stored
        head = sent[0] if sent else None
        return CommandShown(
            command_id=command_id,
            outcome=Outcome.of_letter(entry.outcome),
            entry=entry,
            record_offset=head.record_offset if head else None,
            key=head.key if head else None,
            correlation=head.correlation if head else None,
            published=(state.published_position or 0) >= entry.position,
            events=await self._events(entry, sent),
        )

    async def _events(self, entry: CommandEntry, sent: Sequence[SentEntry]) -> list[EventShown]:
        rows = [(row, row.payload) for row in sent if row.payload is not None]
        if not rows or entry.aggregate not in self.catalog.streams:
            return []
        part = self.catalog.of(entry.aggregate)
        decoder = await self.decoders.decoder(part, TopicRole.EVENTS)
        return [
            EventShown(
                event_id=event_id(str(entry.command_id), row.item + 1),
                type=row.event_type or "",
                sequence=row.sequence,
                fields=await _fields(decoder, payload),
            )
            for row, payload in rows
        ]


async def _fields(decoder: RecordDecoder, payload: bytes) -> Mapping[str, Any] | None:
    try:
        return (await decoder.fields_of(payload))[1]
    except Unreadable:
        return None


def identity_of(command_id: str, service: str | None) -> UUID:
    """Return the id under which the log has a command. Raises `UsageError` if its service must be named too."""
    named = identify(command_id, service or "")
    if service is None and named != command_id.lower():
        raise UsageError(
            f"{command_id!r} is not a UUID, so it is only unique within its service: add --service NAME"
        )
    return UUID(named)
