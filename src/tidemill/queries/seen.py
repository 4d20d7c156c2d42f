"""What a reader must have seen: the token `Tidemill-Seen`, and what a number of it means for a lane. Pure.

The token is a dictionary of RFC 9651: `market-data.17=4711, connector-profiles.3=12;t=2`. A member is a lane, the
sequence of its last event that was seen, and the timeline of that number; the first timeline is not written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode

HEADER: Final = "Tidemill-Seen"
MAX_LANES: Final = 64
MAX_CHARACTERS: Final = 8192

_MEMBER: Final = re.compile(
    r"([a-z][a-z0-9]*(?:-[a-z0-9]+)*)\.(0|[1-9][0-9]{0,4})=(0|[1-9][0-9]{0,14})(?:; *t=([1-9][0-9]{0,8}))?",
    re.ASCII,
)


class SeenLane(NamedTuple):
    """A lane as a token names it: partition `partition` of an aggregate."""

    aggregate: str
    partition: int

    def __str__(self) -> str:
        """Return `market-data.17`."""
        return f"{self.aggregate}.{self.partition}"


class SeenNumber(NamedTuple):
    """A sequence, and its timeline, which a reconciliation raises. Ordered: a later timeline has seen more."""

    timeline: int
    sequence: int

    def __str__(self) -> str:
        """Return `4711`, or `4711;t=2`."""
        return f"{self.sequence}" if self.timeline == 1 else f"{self.sequence};t={self.timeline}"


SeenToken = Mapping[SeenLane, SeenNumber]
"""What was seen, by lane."""

NOTHING_SEEN: Final[SeenToken] = {}


def parse_seen(text: str) -> SeenToken:
    """Return what a token says. Raises `RequestRefused` (BAD_TOKEN): it is malformed, or names more than 64 lanes."""
    if len(text) > MAX_CHARACTERS:
        raise bad_token(f"it is longer than {MAX_CHARACTERS} characters")
    seen = parse_members(text)
    if len(seen) > MAX_LANES:
        raise bad_token(f"it names {len(seen)} lanes: at most {MAX_LANES} are allowed")
    return seen


def parse_members(text: str) -> SeenToken:
    """Return what a token says, however long it is: for one that we wrote ourselves. Raises `RequestRefused`."""
    seen: dict[SeenLane, SeenNumber] = {}
    for member in text.split(",") if text.strip(" \t") else ():
        match = _MEMBER.fullmatch(member.strip(" \t"))
        if match is None:
            raise bad_token(f"{HEADER} is written as market-data.17=4711, connector-profiles.3=12;t=2")
        aggregate, partition, sequence, timeline = match.groups()
        lane = SeenLane(aggregate, int(partition))
        if lane in seen:
            raise bad_token(f"it names {lane} twice")
        seen[lane] = SeenNumber(int(timeline or 1), int(sequence))
    return seen


def format_seen(seen: SeenToken) -> str:
    """Return the token, the same text for the same lanes: by aggregate, then by partition."""
    return ", ".join(f"{lane}={seen[lane]}" for lane in sorted(seen))


def merged(*tokens: SeenToken) -> SeenToken:
    """Return what a reader of all of these has seen: the maximum per lane."""
    most: dict[SeenLane, SeenNumber] = {}
    for token in tokens:
        for lane, number in token.items():
            most[lane] = max(number, most.get(lane, number))
    return most


def bad_token(detail: str) -> RequestRefused:
    """Return the refusal of a token."""
    return RequestRefused(RequestCode.BAD_TOKEN, detail, RequestFault("header", HEADER, detail))


@dataclass(frozen=True, slots=True)
class HistoryFork:
    """A reconciliation of a lane, which began `timeline`.

    Events after `forked_at` up to `continued_at` were withdrawn; those of the timeline follow. `end`: the lane's last
    sequence right after it, which matters if nothing was withdrawn; None if that is no longer known.
    """

    timeline: int
    forked_at: int
    continued_at: int
    end: int | None = None

    def withdrew(self, number: SeenNumber) -> bool:
        """Tell whether a number of an earlier timeline is not in the history that continues.

        Where no event was withdrawn from the topic, the database's own events kept their numbers; a later one was lost
        with the database before it was published.
        """
        if number.timeline >= self.timeline or number.sequence <= self.forked_at:
            return False
        return self.continued_at > self.forked_at or self.end is None or number.sequence > self.end


class TokenState(StrEnum):
    """What a number of a token means for a reader."""

    REACHED = "reached"
    BEHIND = "behind"
    WITHDRAWN = "withdrawn"
    UNKNOWN = "unknown"
    """There is no such lane, or it has no such number."""
    HALTED = "halted"
    """The lane has no such number, but is halted: a reconciliation may withdraw it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenProgress:
    """How far a lane is. `sequence`, `timeline`: the end of its ledger. `forks`: in order.

    `compared`: its owner has compared it with its topics; before that, a restored lane may lack numbers that were given
    out. `folded`: how far the read model is that was asked for; None where rows are written in the command's own
    transaction.
    """

    sequence: int
    timeline: int = 1
    compared: bool = True
    halted: bool = False
    forks: tuple[HistoryFork, ...] = ()
    folded: int | None = None

    @property
    def shown(self) -> SeenNumber:
        """Return up to which number a reader sees."""
        if self.folded is None:
            return SeenNumber(self.timeline, self.sequence)
        begun = [fork.timeline for fork in self.forks if self.folded > fork.continued_at]
        return SeenNumber(max(begun, default=1), self.folded)

    def in_force(self, sequence: int) -> int:
        """Return the last sequence up to this one that was not withdrawn: read models fold no later one."""
        for fork in reversed(self.forks):
            if fork.forked_at < sequence <= fork.continued_at:
                sequence = fork.forked_at
        return sequence


def state_of(number: SeenNumber, lane: SeenProgress | None) -> TokenState:
    """Return what a number means for a lane; `lane`: None if there is none."""
    if lane is None:
        return TokenState.UNKNOWN
    if any(fork.withdrew(number) for fork in lane.forks):
        return TokenState.WITHDRAWN
    if number.timeline > lane.timeline or number.sequence > lane.sequence:
        if lane.halted:
            return TokenState.HALTED
        return TokenState.UNKNOWN if lane.compared else TokenState.BEHIND
    if lane.folded is None or lane.folded >= lane.in_force(number.sequence):
        return TokenState.REACHED
    return TokenState.BEHIND


def states_of(seen: SeenToken, lanes: Mapping[SeenLane, SeenProgress]) -> dict[SeenLane, TokenState]:
    """Return what each number of a token means."""
    return {lane: state_of(number, lanes.get(lane)) for lane, number in seen.items()}


def lanes_in(states: Mapping[SeenLane, TokenState], state: TokenState) -> Iterable[SeenLane]:
    """Return the lanes whose number means this, in order."""
    return sorted(lane for lane, its_state in states.items() if its_state is state)
