"""Whoever waits for an outcome gets that of its own command, whatever else is at its record's place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pytest

from tidemill.admin.records.ports import RecordDecoder, RecordReader
from tidemill.admin.records.publish import Answer, OutcomeWait

MINE, OTHER = "5c0a2f6e-0000-4000-8000-000000000001", "5c0a2f6e-0000-4000-8000-000000000002"


@dataclass
class Message:
    """A record of the outcome topic, not encoded."""

    value: Mapping[str, Any]


class Topic:
    """An outcome topic that holds these, and then is quiet."""

    def __init__(self, *outcomes: Mapping[str, Any]) -> None:
        self.outcomes = outcomes

    async def records(self, *, follow: bool) -> AsyncIterator[Message]:
        assert follow
        for each in self.outcomes:
            yield Message(each)

    async def fields_of(self, value: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        return "outcome", value

    def sending(self, records: int, outcomes: int) -> None:
        """Nobody looks."""

    waiting = sending


def outcome(command_id: str | None, offset: int = 7, **fields: Any) -> dict[str, Any]:
    told = dict.fromkeys(("original", "code", "error_message", "sequence"))
    return {
        **told,
        "command_id": command_id,
        "partition": 0,
        "record_offset": offset,
        "outcome": "applied",
    } | fields


async def answered(*outcomes: Mapping[str, Any]) -> Answer:
    topic = Topic(*outcomes)
    waiting = OutcomeWait(cast("RecordReader", topic), cast("RecordDecoder", topic))
    (answer,) = await waiting.until_all([Answer(1, MINE, partition=0, offset=7)], 5.0, topic)
    await waiting.close()
    return answer


@pytest.mark.parametrize("first", [True, False], ids=["before ours", "behind ours"])
async def test_an_outcome_of_another_command_at_the_same_place_is_not_ours(first: bool) -> None:
    """Of what a service of 0.1.0 decided itself, at the offset that our record then got."""
    others, ours = outcome(OTHER, sequence=1), outcome(MINE, outcome="rejected", code="INVALID")
    answer = await answered(*((others, ours) if first else (ours, others)))
    assert (answer.outcome, answer.code, answer.sequence) == ("rejected", "INVALID", None)


async def test_a_record_that_could_not_be_read_is_known_by_its_place() -> None:
    assert (await answered(outcome(OTHER), outcome(None, outcome="parked"))).outcome == "parked"
