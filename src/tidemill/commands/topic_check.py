"""Claiming: take lanes over, and check that the topic still is the one of the ledger.

The log and the topic must agree before a lane flows: the last record consumed must still be at its offset, and the
next one must not have been deleted. Where they disagree it is unknown which is right: the lane halts with a code, and
an operator decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tidemill.commands.numbering import checksum
from tidemill.commands.ports import CommandSource
from tidemill.domain.errors import Unavailable
from tidemill.domain.lane import Claim, Lane
from tidemill.domain.rejections import HaltCode

Finding = tuple[str, str]
"""A code of `rejections.HALTED` and the evidence."""


@dataclass
class Compared:
    """The result of comparing lanes with their topics.

    `findings`: lane id -> why it must halt, where the topic is not what the ledger says. `idle`: lane ids without a
    record to consume. `unanswered`: those that Kafka could not be asked about.
    """

    findings: dict[int, Finding] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    unanswered: list[Claim] = field(default_factory=list)

    def add(self, other: Compared) -> None:
        """Add the results of other lanes."""
        self.findings |= other.findings
        self.idle |= other.idle
        self.unanswered += other.unanswered


async def compare(source: CommandSource, claims: Sequence[Claim]) -> Compared:
    """Compare claimed lanes with their topic. Raises `Unavailable` if Kafka cannot be asked."""
    if not claims:
        return Compared()
    changed = _changed_count(await source.partitions(), claims)
    if changed:
        return Compared(changed)
    bounds = await source.bounds(frozenset(claim.lane.partition for claim in claims))
    anchored = {
        claim.lane.partition: claim.progress.anchor.offset
        for claim in claims
        if claim.progress.anchor is not None
        and _within(claim.progress.anchor.offset, bounds[claim.lane.partition])
    }
    checksums = await source.records_at(anchored, checksum) if anchored else {}
    findings = {claim.lane.id: _finding(claim, bounds[claim.lane.partition], checksums) for claim in claims}
    idle = {
        claim.lane.id for claim in claims if claim.progress.next_offset >= bounds[claim.lane.partition][1]
    }
    return Compared({lane_id: finding for lane_id, finding in findings.items() if finding is not None}, idle)


async def compare_most(source: CommandSource, claims: Sequence[Claim]) -> Compared:
    """Compare those of the lanes that Kafka can be asked about.

    One partition without a leader makes every question about it fail: so a failed question is asked again in
    halves, as long as one half is answered. Raises `Unavailable` if neither half is.
    """
    try:
        return await compare(source, claims)
    except Unavailable:
        if len(claims) == 1:
            raise
    middle = len(claims) // 2
    halves = claims[:middle], claims[middle:]
    answers = [await _ask(source, half) for half in halves]
    if all(isinstance(answer, Unavailable) for answer in answers):
        raise next(answer for answer in answers if isinstance(answer, Unavailable))
    shown = Compared()
    for half, answer in zip(halves, answers, strict=True):
        shown.add(Compared(unanswered=list(half)) if isinstance(answer, Unavailable) else answer)
    return shown


async def _ask(source: CommandSource, claims: Sequence[Claim]) -> Compared | Unavailable:
    try:
        return await compare(source, claims)
    except Unavailable as error:
        return error


def _changed_count(count: int, claims: Sequence[Claim]) -> dict[int, Finding]:
    """A topic with more partitions distributes its keys differently: their order is lost, in every lane."""
    return {
        claim.lane.id: (HaltCode.PARTITIONS_CHANGED, _counts(claim.lane, count))
        for claim in claims
        if count != claim.lane.partitions
    }


def _counts(lane: Lane, count: int) -> str:
    return f"{lane.topics.commands} has {count} partitions, and {lane.partitions} lanes were created for it"


def as_if_at(claim: Claim, offset: int) -> Claim:
    """Return the claim as if its lane continued at `offset`."""
    return replace(claim, progress=replace(claim.progress, next_offset=offset))


def _finding(claim: Claim, bounds: tuple[int, int], checksums: Mapping[int, int | None]) -> Finding | None:
    """Return what is wrong with a lane. `checksums`: of the record consumed last, by partition."""
    first, end = bounds
    topic, partition = claim.lane.topics.commands, claim.lane.partition
    at = claim.progress.next_offset
    if at > end:
        return HaltCode.OFFSET_AHEAD, f"{topic}/{partition} ends at {end}, the lane consumed up to {at}"
    if at < first:
        return HaltCode.OFFSET_LOST, f"{topic}/{partition} starts at {first}, the lane would continue at {at}"
    anchor = claim.progress.anchor
    if anchor is None or partition not in checksums:
        return (
            None  # nothing was consumed yet, or retention has removed what was consumed: nothing to compare
        )
    found_checksum = checksums[partition]
    if found_checksum != anchor.checksum:
        found = "is missing" if found_checksum is None else "is another one"
        return (
            HaltCode.TOPIC_CHANGED,
            f"the record consumed last, {topic}/{partition} offset {anchor.offset}, {found}",
        )
    return None


def _within(offset: int, bounds: tuple[int, int]) -> bool:
    first, end = bounds
    return first <= offset < end
