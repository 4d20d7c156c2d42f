"""What the client's exceptions mean, and that a mistake of ours is none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from tidemill.domain.errors import Unavailable
from tidemill.transport.kafka.errors import answering, unavailable


def code_of(module: str, body: str) -> Callable[..., Any]:
    """Return a function `call(inner)` that looks as if it were written in `module`."""
    written: dict[str, Any] = {"__name__": module}
    exec(f"def call(inner=None):\n    {body}\n", written)  # where it was written is what is tested
    return written["call"]  # type: ignore[no-any-return]


THE_CLIENT = "aiokafka.producer.producer"
OURS = "tidemill.transport.kafka.publisher"


@pytest.mark.parametrize("raised", ["assert False, 'closed'", "None.write"])
async def test_a_dead_client_is_kafka_that_is_away(raised: str) -> None:
    calls_the_client = code_of(OURS, "inner()")
    with pytest.raises(Unavailable, match="kafka is not available: publishing"):
        async with answering("publishing", 5):
            calls_the_client(code_of(THE_CLIENT, raised))


async def test_what_the_client_meets_in_the_library_below_it_is_its_own() -> None:
    client, below = code_of(THE_CLIENT, "inner()"), code_of("asyncio.streams", "None.write")
    with pytest.raises(Unavailable):
        async with answering("publishing", 5):
            code_of(OURS, "inner()")(lambda: client(below))


@pytest.mark.parametrize("raised", ["assert False, 'no such state'", "None.sequence"])
async def test_a_mistake_of_ours_stays_what_it_is(raised: str) -> None:
    mistake = code_of(OURS, raised)
    with pytest.raises((AssertionError, AttributeError)):
        async with answering("publishing", 5):
            mistake()


async def test_a_mistake_of_ours_that_the_client_calls_is_ours() -> None:
    client = code_of(THE_CLIENT, "inner()")
    with pytest.raises(AttributeError):
        async with answering("joining", 5):
            client(code_of(OURS, "None.assigned"))


async def test_what_only_kafka_says_is_never_ours() -> None:
    for error in (KafkaConnectionError("away"), OSError("reset")):
        assert isinstance(unavailable("reading", error), Unavailable)
    with pytest.raises(Unavailable, match="no answer within"):
        async with answering("reading", 0.01):
            await asyncio.Event().wait()
