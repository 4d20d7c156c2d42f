"""The topics compared with the database, before a relay sends anything.

The tails of a lane's topics show what subscribers can see, the ledger and the outbox what happened. Where they
contradict each other, one of them was restored, edited, truncated or re-created: the lane halts with a code, since
every automatic continuation would lose, double or rewrite events.

Retention may have removed outcomes and dead letters, so an empty topic proves nothing about them; events are kept
without end. What the outbox still holds is authoritative; the stored hint is used where the outbox has been dropped.
"""

from __future__ import annotations

from typing import NamedTuple

from tidemill.domain.errors import LaneHalted
from tidemill.domain.lane import Claim, Lane
from tidemill.domain.rejections import HaltCode
from tidemill.outbox.ports import LaneEnd, OutboxReader, Published, SentPositions, Tail, Tails

_EMPTY = Tail(0, 0, None)


class ResumePoint(NamedTuple):
    """Where a relay continues: after `published`, leaving out what is `sent`. `end`: how far the database was."""

    published: Published
    sent: SentPositions
    end: LaneEnd


async def find_resume_point(reader: OutboxReader, claim: Claim, tails: Tails) -> ResumePoint:
    """Compare `tails` with the database and return where to continue.

    The tails must have been read before: the lane's owner continues to commit meanwhile.

    Raises:
        LaneHalted: they contradict each other.
        Fenced: the claim was lost.
        TransientError: the database is unavailable.
    """
    end = await reader.end(claim)
    published = await reader.published(claim.lane.id)
    known: dict[int, str] | None = None
    if tails.events is not None:
        known = await reader.events_at(claim.lane.id, tails.events.position)
    compare_tails(claim.lane, tails, end, published, known)
    return ResumePoint(published, _sent(tails, published), end)


def compare_tails(
    lane: Lane, tails: Tails, end: LaneEnd, published: Published, known: dict[int, str] | None
) -> None:
    """Raise `LaneHalted` if `tails` contradict the database.

    `known`: the database's events at the position of the event topic's tail, None if it has none of that time.
    """
    _check_not_ahead(lane, tails, end)
    if not _was_known(tails, end, published):
        _check_not_behind(lane, tails, published)
    if tails.events is not None:
        _check_same_event(lane, tails.events, published, known)


def _check_not_ahead(lane: Lane, tails: Tails, end: LaneEnd) -> None:
    events = tails.events or _EMPTY
    if events.sequence > end.sequence:
        raise LaneHalted(
            lane.id,
            HaltCode.HISTORY_BEHIND,
            f"{lane.topics.events}/{lane.partition} ends with event {events.sequence}, the log with {end.sequence}",
        )
    for topic, tail in _tails(lane, tails):
        if tail is not None and tail.position > end.position:
            raise LaneHalted(
                lane.id,
                HaltCode.HISTORY_BEHIND,
                f"{topic}/{lane.partition} ends with position {tail.position}, the log with {end.position}",
            )


def _was_known(tails: Tails, end: LaneEnd, published: Published) -> bool:
    """Tell whether the topics end as they did when the lane was reconciled, and nothing was sent since."""
    if not end.forks:
        return False
    fork = end.forks[-1]
    hinted = (published.position, published.sequence) == (fork.position, fork.continued_at)
    outcomes = None if tails.outcomes is None else tails.outcomes.position
    return hinted and ((tails.events or _EMPTY).sequence, outcomes) == (
        fork.topic_sequence,
        fork.topic_position,
    )


def _check_not_behind(lane: Lane, tails: Tails, published: Published) -> None:
    events = tails.events or _EMPTY
    if events.sequence < published.sequence:
        raise LaneHalted(
            lane.id,
            HaltCode.TOPIC_BEHIND,
            f"{lane.topics.events}/{lane.partition} acknowledged event {published.sequence} "
            f"and now ends with {events.sequence}",
        )
    if tails.outcomes is not None and tails.outcomes.position < published.position:
        raise LaneHalted(
            lane.id,
            HaltCode.TOPIC_BEHIND,
            f"{lane.topics.outcomes}/{lane.partition} acknowledged position {published.position} "
            f"and now ends with {tails.outcomes.position}",
        )


def _check_same_event(lane: Lane, tail: Tail, published: Published, known: dict[int, str] | None) -> None:
    if known is not None:
        expected = known.get(tail.sequence)
    elif published.sequence == tail.sequence and published.event_id is not None:
        expected = published.event_id
    else:
        return  # unknown; a gap after `published` shows when its rows are read
    if expected != tail.event_id:
        raise LaneHalted(
            lane.id,
            HaltCode.HISTORY_FORKED,
            f"event {tail.sequence} at position {tail.position} is {tail.event_id} in "
            f"{lane.topics.events}/{lane.partition}, and {expected or 'another one'} in the log",
        )


def _tails(lane: Lane, tails: Tails) -> tuple[tuple[str, Tail | None], ...]:
    return (
        (lane.topics.events, tails.events),
        (lane.topics.outcomes, tails.outcomes),
        (lane.topics.dead_letters, tails.dead_letters),
    )


def _sent(tails: Tails, published: Published) -> SentPositions:
    return SentPositions(
        sequence=(tails.events or _EMPTY).sequence,
        outcomes=max((tails.outcomes or _EMPTY).position, published.position),
        dead_letters=max((tails.dead_letters or _EMPTY).position, published.position),
    )
