"""What the second model of the archive is made of: a range, its generations, its rules, and what archivers say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from tests.support.archive.model import NOW
from tests.support.archive.rules import Rules
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalStatus
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import Source
from tidemill.retention.copy_ownership import why_not_own
from tidemill.retention.eviction import Leaving, leave
from tidemill.retention.explanations import in_the_way
from tidemill.retention.planner import RetentionPlan, plan
from tidemill.retention.restore_plan import RestorableRange, ranges_back
from tidemill.retention.slices import Slice

LONG_AGO = NOW - timedelta(days=1)
"""When a proof was made that is old."""

START = datetime(2020, 1, 1, tzinfo=UTC)
END = START + timedelta(days=1)
TABLE = sa.Table("ticks", sa.MetaData(), sa.Column("time", sa.DateTime(timezone=True)), schema="public")
POLICY = Retention(TABLE, after=timedelta(days=1), quiet=timedelta(0), again_after=timedelta(0))

CHUNK = "_timescaledb_internal.now"
GONE = "_timescaledb_internal.gone"
"""What slices call the chunk that is there, and every one that is not any more: names are only compared."""


@dataclass(frozen=True)
class RangeRules(Rules):
    """What decides about a range, besides what decides about a slice; `adopts` and `keeps_late` are the database's."""

    plan: Callable[..., RetentionPlan] = plan
    ranges_back: Callable[..., list[RestorableRange]] = ranges_back
    leave: Callable[..., Leaving] = leave
    in_the_way: Callable[..., str | None] = in_the_way
    adopts: Callable[[Slice], bool] = lambda which: which.source is Source.LATE
    why_not_own: Callable[..., str | None] = why_not_own
    keeps_late: Callable[[Sequence[Slice]], bool] = lambda others: any(other.is_closed for other in others)


@dataclass(frozen=True)
class RangeBounds:
    """How large the world is. `lies`: confirmations name any copy that there can be, not only their own."""

    generations: int = 2
    seals: int = 2
    writes: int = 1
    attempts: int = 1
    external_writes: bool = False
    deletes: bool = False
    lies: bool = False


class Generation(NamedTuple):
    """`slice`: its number in the model's table, NOTHING if there is none yet. `rows`: late ones that are its own."""

    slice: int
    rows: int
    lake: tuple[int, ...]
    """Copies, by the seal that they were asked for under."""


class Range(NamedTuple):
    """`late`: diverted rows that belong to no generation. `writes`: how many rows came after the first."""

    generations: tuple[Generation, ...]
    chunk: int
    late: int = 0
    writes: int = 0


Known = tuple[tuple[int, Slice], ...]
"""The generations that there are, each with its place."""


def request_of(place: int, seal: int) -> str:
    """Return the id of a generation's request; as in the service, all of a registry begin with the same 8 digits."""
    return f"registryg{place}e{seal}"


def place_in_lake(event_id: str) -> tuple[int, int]:
    """Return where in the lake a request's copy is: whose, and the how-manieth."""
    place, _, seal = event_id.removeprefix("registryg").partition("e")
    return int(place), int(seal) - 1


def slices_of(world: Range) -> tuple[int, ...]:
    """Return the slices' numbers: what most of what can happen depends on."""
    return tuple([each.slice for each in world.generations])


def changed(world: Range, place: int, **told: Any) -> Range:
    each = world.generations
    return world._replace(generations=(*each[:place], each[place]._replace(**told), *each[place + 1 :]))


def called(message: ArchivalConfirmation) -> str:
    """Return what the walk calls a message: `completed` is the truth, if there is a copy."""
    where = message.lakehouse_path
    if message.status is not ArchivalStatus.COMPLETED:
        return f"says {message.status}"
    return "completed" if where in {None, own_place(message.event_id)} else f"says completed at {where}"


def own_place(event_id: str) -> str:
    """Return where an archiver puts a request's copy: under a name with the id, as it must."""
    return f"lake/{event_id}"


def messages(bounds: RangeBounds) -> Iterator[ArchivalConfirmation]:
    """Give every kind of answer to every request that there can be, the true one first."""
    status = ArchivalStatus
    events = [request_of(at, seal) for at in range(bounds.generations) for seal in range(1, bounds.seals + 1)]
    for event in events:
        others = [own_place(other) for other in events] if bounds.lies else []
        said: list[dict[str, Any]] = [
            *({"status": status.COMPLETED, "lakehouse_path": at} for at in (own_place(event), *others)),
            {"status": status.COMPLETED},
            {"status": status.COMPLETED, "lakehouse_path": "lake/garbage"},
            {"status": status.IN_PROGRESS},
            {"status": status.FAILED},
            {"status": status.FAILED, "retryable": False},
        ]
        for words in said:
            yield ArchivalConfirmation(event_id=event, completed_at=NOW, **words)
