"""`retention conformance`: every case in turn, against the listening archiver."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from tidemill.app.deployment import Deployment
from tidemill.app.lake import open_copies
from tidemill.domain.errors import Unreadable
from tidemill.runtime.clock import SystemClock
from tidemill_devkit.archiver_conformance.bench import Bench, Failed, NotTried
from tidemill_devkit.archiver_conformance.cases import CASES, Case
from tidemill_devkit.archiver_conformance.line import ArchiverLine, Silent
from tidemill_devkit.archiver_conformance.place import ConformanceSite, scratch_place


@dataclass(frozen=True)
class Invitation:
    """The settings that an archiver needs to take part; the others are its own."""

    database: str
    prefix: str
    events: str
    confirmations: str
    table: str


@dataclass(frozen=True)
class CaseResult:
    """How a case ended: `result` is `passed`, `failed` or `not tried`; `why` says what was wrong."""

    case: str
    about: str
    result: str
    why: str | None
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class ConformanceReport:
    """The results of all cases. `archiver`: its id, None if it sends none."""

    archiver: str | None
    table: str
    case_results: tuple[CaseResult, ...]

    @property
    def conforms(self) -> bool:
        """Return whether every case was passed."""
        return all(each.result == "passed" for each in self.case_results)


async def run_conformance(
    deployment: Deployment,
    *,
    prefix: str,
    within_s: float,
    on_ready: Callable[[Invitation], None],
    on_result: Callable[[CaseResult], None],
) -> ConformanceReport:
    """Test the archiver that listens at `prefix`. `within_s`: how long each answer may take.

    Raises:
        UsageError: no lake is set, or the prefix is taken.
        Unavailable: a server is unavailable.
    """
    copies, clock = open_copies(deployment.settings), SystemClock()
    async with AsyncExitStack() as shared:
        place = await shared.enter_async_context(scratch_place(deployment, prefix, clock.now()))
        line = await ArchiverLine.open(shared, place)
        on_ready(_invitation(place))
        bench = Bench(place, line, copies, within_s)
        case_results: list[CaseResult] = []
        for case in CASES:
            began_s = clock.monotonic_s()
            bench.notes.clear()
            result, why = await _tried(bench, case, case_results)
            case_result = CaseResult(
                case.name, case.about, result, why, tuple(bench.notes), clock.monotonic_s() - began_s
            )
            case_results.append(case_result)
            on_result(case_result)
        archiver_ids = (answer.archiver_id for answer in line.answers if answer.archiver_id)
        return ConformanceReport(next(archiver_ids, None), place.table.name, tuple(case_results))


async def _tried(bench: Bench, case: Case, before: list[CaseResult]) -> tuple[str, str | None]:
    if before and not bench.line.answers:
        return "not tried", "nobody answers"
    try:
        await case.run(bench)
    except NotTried as error:
        return "not tried", str(error)
    except (Failed, Silent) as error:
        return "failed", str(error)
    except Unreadable as error:
        return "failed", f"its answer cannot be read: {error}"
    return "passed", None


def _invitation(place: ConformanceSite) -> Invitation:
    topics, prefix = place.topics, place.settings.topics.prefix
    return Invitation(place.database, prefix, topics.events, topics.commands, place.table.name)
