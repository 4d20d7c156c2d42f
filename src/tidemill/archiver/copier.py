"""Copies what a request asks for, chunk by chunk, in a worker thread: a failed chunk does not stop the others."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final

from tidemill.archiver.copy_plan import CopyPlan, CopyRefused, Task, difference
from tidemill.archiver.ports import ChunkReader, Lake, WrittenCopy
from tidemill.archiver.read_pace import Interrupted, Pace
from tidemill.domain.archive.messages import ArchivalChunk, ArchivalFile, ArchivalResult, ArchivalStatus
from tidemill.domain.archive.slices import LakePlace, Measured, SliceId
from tidemill.domain.errors import CopyError, CopyStands, TidemillError, TransientError, Unavailable
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import ARCHIVER_CHUNKS, ARCHIVER_READ_BYTES, ARCHIVER_ROWS

_log = logger(__name__)

MAX_REASON_CHARACTERS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a chunk, or a whole request, was not copied. `retryable`: the same request may succeed later."""

    code: str
    reason: str
    retryable: bool

    @classmethod
    def of(cls, fault: Exception) -> Failure:
        """Return the failure to report for a fault."""
        reason = str(fault)[:MAX_REASON_CHARACTERS] or type(fault).__name__
        match fault:
            case CopyRefused(code=code, reason=why):
                return cls(code, why, retryable=False)
            case CopyStands():
                return cls("COPY_STANDS", reason, retryable=False)
            case Unavailable(server=server):
                return cls(f"{server.upper()}_AWAY", reason, retryable=True)
            case TransientError():
                return cls("TRY_AGAIN", reason, retryable=True)
            case ValueError():
                return cls("NOT_REPRESENTABLE", reason, retryable=False)
            case TidemillError():
                return cls("READ_REFUSED", reason, retryable=True)  # a missing grant can be added
            case _:
                return cls("CRASHED", f"{type(fault).__name__}: {reason}", retryable=True)


@dataclass(frozen=True, slots=True)
class CopyResult:
    """The result of one chunk: a copy (`found`: it existed before), or a failure."""

    chunk: ArchivalChunk
    copy: WrittenCopy | None = None
    found: bool = False
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """The result of a request. `place` None: nothing was published; see `failure` or the chunks."""

    chunks: tuple[CopyResult, ...]
    place: LakePlace | None = None
    failure: Failure | None = None

    @property
    def copied(self) -> int:
        """How many chunks have a copy."""
        return sum(result.copy is not None for result in self.chunks)

    @property
    def replayed(self) -> bool:
        """Whether every copy existed before."""
        return self.copied > 0 and all(result.found for result in self.chunks if result.copy is not None)


@dataclass(frozen=True, slots=True)
class Copier:
    """Executes requests. Synchronous: call it from a thread."""

    reader: ChunkReader
    lake: Lake

    def carry_out(self, plan: CopyPlan, pace: Pace) -> Carried:
        """Copy what can be copied, then publish it. Raises `Interrupted`; all other faults are in what it returns."""
        results = [CopyResult(chunk, failure=Failure.of(fault)) for chunk, fault in plan.refused]
        copies: dict[SliceId, WrittenCopy] = {}
        away: Failure | None = None
        for task in plan.tasks:
            pace.check()
            each = (
                CopyResult(task.chunk, failure=away) if away is not None else self._copied(plan, task, pace)
            )
            if each.copy is not None:
                copies[task.slice] = each.copy
            elif each.failure is not None and each.failure.code.endswith("_AWAY"):
                away = each.failure  # the other chunks would wait for the same server
            results.append(each)
        _count(results)
        if not copies:
            return Carried(tuple(results), failure=_gravest(results))
        return self._published(plan, tuple(results), copies)

    def _copied(self, plan: CopyPlan, task: Task, pace: Pace) -> CopyResult:
        try:
            found = self._found(plan, task)
            if found is not None:
                return CopyResult(task.chunk, found, found=True)
            return CopyResult(task.chunk, self._copy(plan, task, pace))
        except Interrupted:
            raise
        except Exception as fault:  # noqa: BLE001  whatever it is, it is this chunk's: the others go on
            failure = Failure.of(fault)
            _log.warning(
                Log.ARCHIVAL_CHUNK_FAILED,
                event_id=plan.event.event_id,
                chunk=task.chunk.chunk_name,
                code=failure.code,
                error=failure.reason,
                exc_info=fault if failure.code == "CRASHED" else None,
            )
            return CopyResult(task.chunk, failure=failure)

    def _found(self, plan: CopyPlan, task: Task) -> WrittenCopy | None:
        """Return the existing copy. Raises `CopyStands` if it has other rows: it may be the only one of them."""
        try:
            found = self.lake.find(task.slice, plan.event.event_id)
        except CopyError:
            return None  # it is written again
        differs = None if found is None else difference(task.chunk, found.measured)
        if found is not None and differs is not None:
            path = found.files[0].path if found.files else task.slice.table
            raise CopyStands(path, task.slice, plan.event.event_id, differs)
        return found

    def _copy(self, plan: CopyPlan, task: Task, pace: Pace) -> WrittenCopy:
        before = pace.bytes_passed
        with closing(self.reader.read(task.read_sql, pace.piece_bytes)) as batches:
            copy = self.lake.write(
                task.slice,
                plan.event.event_id,
                plan.columns,
                plan.time_column,
                pace.through(batches),
                partial(_demand_sealed, task.chunk),
            )
        ARCHIVER_ROWS.inc(copy.measured.row_count)
        ARCHIVER_READ_BYTES.inc(pace.bytes_passed - before)
        return copy

    def _published(
        self, plan: CopyPlan, results: tuple[CopyResult, ...], copies: dict[SliceId, WrittenCopy]
    ) -> Carried:
        event = plan.event
        try:
            place = self.lake.publish(event.table_name, event.event_id, copies, event.supersedes)
        except Exception as fault:  # noqa: BLE001  the files stay: the next try finds them and publishes
            failure = Failure.of(fault)
            _log.warning(
                Log.ARCHIVAL_CHUNK_FAILED, event_id=event.event_id, code=failure.code, error=failure.reason
            )
            return Carried(
                tuple(CopyResult(each.chunk, failure=each.failure or failure) for each in results),
                failure=failure,
            )
        return Carried(results, place)


def _demand_sealed(chunk: ArchivalChunk, measured: Measured) -> None:
    """Refuse rows that are not those that were sealed, before they get a name in the lake."""
    differs = difference(chunk, measured)
    if differs is not None:
        raise CopyRefused("DIGEST_DIFFERS", f"what was read is not what was sealed: {differs}")


def result_of(carried: CopyResult) -> ArchivalResult:
    """Return the part of a confirmation about one chunk."""
    chunk, copy, failure = carried.chunk, carried.copy, carried.failure
    if copy is None:
        assert failure is not None
        return ArchivalResult(
            chunk_name=chunk.chunk_name,
            generation=chunk.generation,
            status=ArchivalStatus.FAILED,
            error_code=failure.code,
            error_message=failure.reason,
        )
    return ArchivalResult(
        chunk_name=chunk.chunk_name,
        generation=chunk.generation,
        status=ArchivalStatus.COMPLETED,
        files=tuple(ArchivalFile(**file._asdict()) for file in copy.files),
        **copy.measured._asdict(),
    )


def _count(results: list[CopyResult]) -> None:
    for each in results:
        result = "failed" if each.copy is None else "found" if each.found else "copied"
        ARCHIVER_CHUNKS.labels(result).inc()


def _gravest(results: list[CopyResult]) -> Failure | None:
    """Return the main failure of a request of which nothing was copied: a retryable one, if any."""
    failures = [each.failure for each in results if each.failure is not None]
    return next((failure for failure in failures if failure.retryable), next(iter(failures), None))
