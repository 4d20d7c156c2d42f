"""Claiming: take lanes over, and make sure that the topic still is the one that the ledger speaks of.

The log and the topic must agree before a lane flows: the last record consumed must still stand where it stood, and the
next one must not have been deleted. Where they disagree nobody can tell which is right: the lane halts by name, and an
operator decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tidemill.commands.books import checksum
from tidemill.commands.ports import CommandSource
from tidemill.domain.errors import Unavailable
from tidemill.domain.lane import Claim, InboundRecord, Lane

Finding = tuple[str, str]
"""A code of `rejections.HALTED` and the evidence."""


async def compare(source: CommandSource, claims: Sequence[Claim]) -> dict[int, Finding]:
    """Return lane id -> why it must halt, for the claimed lanes whose topic is not what the ledger says.

    Raises `Unavailable` if Kafka cannot be asked.
    """
    if not claims:
        return {}
    changed = _changed_count(await source.partitions(), claims)
    if changed:
        return changed
    bounds = await source.bounds(frozenset(claim.lane.partition for claim in claims))
    anchored = {
        claim.lane.partition: claim.progress.anchor.offset
        for claim in claims
        if claim.progress.anchor is not None
        and _within(claim.progress.anchor.offset, bounds[claim.lane.partition])
    }
    records = await source.records_at(anchored) if anchored else {}
    findings = {claim.lane.lane: _finding(claim, bounds[claim.lane.partition], records) for claim in claims}
    return {lane: finding for lane, finding in findings.items() if finding is not None}


async def compare_most(
    source: CommandSource, claims: Sequence[Claim]
) -> tuple[dict[int, Finding], list[Claim]]:
    """Return what `compare` does for those lanes that Kafka can be asked about, and the others' claims.

    One partition without a leader makes every question about it fail: so what was asked in vain is asked again in
    halves, as long as one of them is answered. Raises `Unavailable` if neither half is.
    """
    try:
        return await compare(source, claims), []
    except Unavailable:
        if len(claims) == 1:
            raise
    middle = len(claims) // 2
    halves = claims[:middle], claims[middle:]
    answers = [await _ask(source, half) for half in halves]
    if all(isinstance(answer, Unavailable) for answer in answers):
        raise next(answer for answer in answers if isinstance(answer, Unavailable))
    findings: dict[int, Finding] = {}
    unanswered: list[Claim] = []
    for half, answer in zip(halves, answers, strict=True):
        if isinstance(answer, Unavailable):
            unanswered += half
        else:
            findings |= answer
    return findings, unanswered


async def _ask(source: CommandSource, claims: Sequence[Claim]) -> dict[int, Finding] | Unavailable:
    try:
        return await compare(source, claims)
    except Unavailable as error:
        return error


def _changed_count(count: int, claims: Sequence[Claim]) -> dict[int, Finding]:
    """A topic that has grown spreads its keys anew: whatever order they had is gone, in every lane."""
    return {
        claim.lane.lane: ("PARTITIONS_CHANGED", _counts(claim.lane, count))
        for claim in claims
        if count != claim.lane.partitions
    }


def _counts(lane: Lane, count: int) -> str:
    return f"{lane.topics.commands} has {count} partitions, and {lane.partitions} lanes were created for it"


def as_if_at(claim: Claim, offset: int) -> Claim:
    """Return the claim as if its lane were to read on at `offset`."""
    return replace(claim, progress=replace(claim.progress, next_offset=offset))


def _finding(
    claim: Claim, bounds: tuple[int, int], records: Mapping[int, InboundRecord | None]
) -> Finding | None:
    first, end = bounds
    topic, partition = claim.lane.topics.commands, claim.lane.partition
    at = claim.progress.next_offset
    if at > end:
        return "OFFSET_AHEAD", f"{topic}/{partition} ends at {end}, the lane consumed up to {at}"
    if at < first:
        return "OFFSET_LOST", f"{topic}/{partition} starts at {first}, the lane would read on at {at}"
    anchor = claim.progress.anchor
    if anchor is None or partition not in records:
        return (
            None  # nothing was consumed yet, or retention has removed what was consumed: nothing to compare
        )
    record = records[partition]
    if record is None or checksum(record) != anchor.checksum:
        found = "is missing" if record is None else "is another one"
        return (
            "TOPIC_CHANGED",
            f"the record consumed last, {topic}/{partition} offset {anchor.offset}, {found}",
        )
    return None


def _within(offset: int, bounds: tuple[int, int]) -> bool:
    first, end = bounds
    return first <= offset < end
