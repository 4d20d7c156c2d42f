"""The progress of every step, and what is stopped and why: what an operator asks first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from tidemill.admin.archive.status import ArchiveStatus, archive_status
from tidemill.admin.lanes.states import lane_of
from tidemill.admin.ports import (
    EditionReader,
    HoldingsReader,
    LaneReader,
    ProcessReader,
    ReadModelStates,
    TopicInspector,
)
from tidemill.admin.progress import (
    CommandLag,
    HiddenRecords,
    ReadModelStatus,
    StreamStatus,
    command_lags,
    hidden_records,
    read_model_status,
    stream_status,
    unfolded_since,
    unpublished_since,
)
from tidemill.admin.readiness import unready
from tidemill.admin.rows import ForeignRecords, GroupMember, LaneState, ProcessState, ProjectionState
from tidemill.catalog.misfits import Misfit, MisfitReader
from tidemill.catalog.streams import StreamCatalog
from tidemill.catalog.tables import Difference
from tidemill.domain.community import LackingFeature, lacking
from tidemill.domain.errors import Unavailable
from tidemill.domain.lane import MAX_AHEAD, lane_spans
from tidemill.domain.rejections import HALTED
from tidemill.projections.halts import HALTS
from tidemill.runtime.clock import Clock
from tidemill.security.gate import SecretFault


@dataclass(frozen=True)
class HaltStatus:
    """Something that is halted: a lane, or a projection in a lane; `advice` says what the code means."""

    what: str
    code: str
    detail: str
    since: datetime
    advice: str


@dataclass(frozen=True)
class WaitStatus:
    """A lane that waits before a command for a process that knows all of it; `until`: then the command is parked."""

    lane: str
    offset: int
    schema: str
    type: str
    service: str | None
    detail: str
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Status:
    """Every step. `waiting`: lanes that continue by themselves, at the latest when their time is over.

    `foreign`: what other programs wrote into the topics. `trouble`: why something was not read. `archive`: by table;
    quarantined slices wait for an operator, and nothing else waits for them. `clock`: which lanes are ahead of the
    time, if any. `misfits`: whose tables are not as this version declares them. `differences`: of tables and views,
    although nothing is stopped by them. `processes`: those that serve. `secrets`: streams with lanes that no process
    owns, and whose master keys are not set where this is asked. `hidden`: lanes that wait for the end of a transaction.
    `foreign_members`: other programs in the consumer group of a stream with lanes that no process owns. `at`: when it
    was read. `unready`: what is not served yet; empty once all is. `edition`: of TimescaleDB. `lacking`: what contexts
    want of its Community edition and the database does not have; each is told what stands in for it.
    """

    streams: Sequence[StreamStatus]
    views: Sequence[ReadModelStatus]
    halts: Sequence[HaltStatus]
    waiting: Sequence[WaitStatus] = ()
    foreign: Sequence[ForeignRecords] = ()
    archive: Sequence[ArchiveStatus] = ()
    misfits: Sequence[Misfit] = ()
    differences: Sequence[Difference] = ()
    processes: Sequence[ProcessState] = ()
    secrets: Sequence[SecretFault] = ()
    hidden: Sequence[HiddenRecords] = ()
    foreign_members: Sequence[GroupMember] = ()
    unready: Sequence[str] = ()
    at: datetime | None = None
    trouble: str | None = None
    clock: str | None = None
    edition: str | None = None
    lacking: Sequence[LackingFeature] = ()

    @property
    def ok(self) -> bool:
        """Return whether everything could be read and nothing is stopped."""
        stopped = self.halts or self.misfits or self.secrets or self.foreign_members
        return not stopped and self.trouble is None


class SecretFaults(Protocol):
    """What is known here of the master keys of secrets."""

    async def faults(self) -> list[SecretFault]:
        """Return the streams that a process with these keys would not serve. Raises `Unavailable`."""
        ...


@dataclass(frozen=True, kw_only=True)
class StatusReader:
    """Reads the progress of every step."""

    catalog: StreamCatalog
    lanes: LaneReader
    read_models: ReadModelStates
    archive: HoldingsReader
    misfits: MisfitReader
    processes: ProcessReader
    secrets: SecretFaults
    topics: TopicInspector
    edition: EditionReader
    clock: Clock

    async def read(self) -> Status:
        """Return the status. Raises `Unavailable` for the database; an unavailable Kafka is reported."""
        lanes, projections = await self.lanes.lanes(), await self.read_models.projections()
        foreign = await self.read_models.foreign_records()
        policies = self.catalog.policies
        held = await self.archive.holdings(list(policies))
        tables = await self.misfits.survey(self.catalog)
        processes = await self.processes.processes()
        faults, edition = await self.secrets.faults(), await self.edition.features()
        published = await unpublished_since(self.lanes, lanes)
        folded = await unfolded_since(self.lanes, self.catalog, lanes, projections)
        lags, foreign_members, trouble = await self._ask_kafka(lanes)
        now = self.clock.now()
        streams = stream_status(lanes, lags, published)
        views = read_model_status(self.catalog, lanes, projections, folded)
        unowned = {lane.aggregate for lane in lanes if not lane.owned}
        return Status(
            streams=streams,
            views=views,
            halts=[*_lane_halts(lanes), *_projection_halts(projections)],
            waiting=[_wait(lane) for lane in lanes if lane.waits_since is not None],
            foreign=foreign,
            archive=archive_status(policies, held, now),
            misfits=tables.misfits,
            differences=tables.harmless,
            processes=processes,
            secrets=[fault for fault in faults if fault.aggregate in unowned],
            unready=unready([one for one in streams if one.aggregate in self.catalog.contexts], views),
            hidden=hidden_records(lanes, lags),
            foreign_members=foreign_members,
            at=now,
            trouble=trouble,
            clock=ahead_of(lanes, now),
            edition="Community" if edition.is_community else "Apache",
            lacking=lacking(self.catalog.community, edition),
        )

    async def _ask_kafka(
        self, lanes: Sequence[LaneState]
    ) -> tuple[Mapping[int, CommandLag], Sequence[GroupMember], str | None]:
        """Return lane -> its lag, other programs in the groups of lanes without an owner, and why not if it is so."""
        if not lanes:
            return {}, (), "there are no lanes yet: run `tidemill topics create`"
        named = {name for lane in lanes for name in lane_of(lane).topics.named().values()}
        try:
            if absent := await self.topics.absent(named):
                return {}, (), _missing(absent)
            lags = await command_lags(self.topics, lanes)
            unowned = {lane.command_topic for lane in lanes if not lane.owned}
            members = await self.topics.members(sorted(unowned)) if unowned else []
        except Unavailable as error:
            return {}, (), str(error)
        foreign_members = [member for member in members if member.partitions and not is_ours(member)]
        return lags, foreign_members, None


def is_ours(member: GroupMember) -> bool:
    """Tell whether a member of a group is a process of ours: these are named `tidemill-commands-HOST-...`."""
    return member.client_id.startswith("tidemill-")


def _missing(topics: Sequence[str]) -> str:
    named = ", ".join(topics)
    return f"Kafka has no {named}, or Tidemill's principal may not describe them: see `tidemill topics check`"


def ahead_of(lanes: Sequence[LaneState], now: datetime) -> str | None:
    """Return which lanes' last batch is ahead of `now`, and by how much: a clock is or was wrong; None if none is."""
    ahead = {lane_of(state): state.at - now for state in lanes if state.at > now + MAX_AHEAD}
    if not ahead:
        return None
    by = timedelta(seconds=round(max(ahead.values()).total_seconds()))
    return (
        f"the last batch of lanes {lane_spans(ahead)} is up to {by} ahead of this machine's clock: that, or the "
        "database's, is wrong, or was; with their next batch these lanes take the time of the database's clock"
    )


def _lane_halts(lanes: Sequence[LaneState]) -> list[HaltStatus]:
    return [
        HaltStatus(
            what=f"lane {state.lane} ({state.name})",
            code=state.halt_code,
            detail=state.halt_detail or "",
            since=state.halted_since or state.at,
            advice=f"{HALTED.get(state.halt_code, '')}; see `tidemill lanes show {state.name}`",
        )
        for state in lanes
        if state.halt_code is not None
    ]


def _wait(state: LaneState) -> WaitStatus:
    assert state.waits_before is not None
    assert state.waits_since is not None
    assert state.waits_until is not None
    return WaitStatus(
        lane=state.name,
        offset=state.waits_before,
        schema=state.waits_schema or "",
        type=state.waits_type or "",
        service=state.waits_service,
        detail=state.waits_detail or "",
        since=state.waits_since,
        until=state.waits_until,
    )


def _projection_halts(projections: Sequence[ProjectionState]) -> list[HaltStatus]:
    return [
        HaltStatus(
            what=f"{projection.name}, lane {projection.aggregate}/{halt.partition}",
            code=halt.code,
            detail=halt.detail,
            since=halt.since,
            advice=HALTS.get(halt.code, ""),
        )
        for projection in projections
        for halt in projection.halts
    ]
