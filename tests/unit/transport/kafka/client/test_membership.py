"""When a member is given up: its group is silent, although the broker answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tidemill.domain.errors import Unavailable
from tidemill.transport.kafka.client import membership
from tidemill.transport.kafka.client.membership import MAX_SILENCE_S, Membership


class Group:
    """A coordinator that answers at once, a broker that does what a test says, and the time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.while_asked: Callable[[], Any] = self.nothing
        self.consumer = SimpleNamespace(_coordinator=SimpleNamespace(_send_req=self.answer))

    async def answer(self, _request: object) -> str:
        return "an answer"

    async def nothing(self) -> None:
        """The broker answers, and the group stays silent."""

    async def heartbeat(self) -> None:
        await self.consumer._coordinator._send_req("heartbeat")

    async def ask(self) -> None:
        await self.while_asked()


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    group = Group()

    async def no_pause(_seconds: float) -> None:
        """The clock is the test's."""

    monkeypatch.setattr(membership, "monotonic", lambda: group.now_s)
    monkeypatch.setattr(membership, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": no_pause}))
    return group


@pytest.fixture
async def member(group: Group) -> AsyncIterator[Membership]:
    member = Membership(group.consumer, ask=group.ask)
    yield member
    await member.close()


async def test_a_silent_group_is_given_up_once_the_broker_answers(group: Group, member: Membership) -> None:
    group.now_s = MAX_SILENCE_S
    with pytest.raises(Unavailable, match="has not answered this member for 60 s, but the broker does"):
        await member._look()


async def test_an_answer_that_comes_while_the_broker_is_asked_counts(
    group: Group, member: Membership
) -> None:
    """A broker that was frozen answers everybody at the same time: the member must not be given up for that."""
    group.now_s = MAX_SILENCE_S
    group.while_asked = group.heartbeat
    await member._look()


async def test_nobody_is_given_up_while_the_broker_is_away(group: Group, member: Membership) -> None:
    async def away() -> None:
        raise Unavailable("kafka", "no answer")

    group.now_s = 10 * MAX_SILENCE_S
    group.while_asked = away
    await member._look()
