"""What the client's exceptions mean, and that a mistake of ours is none of them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, SaslAuthenticationFailed

from tidemill.domain.errors import Unavailable
from tidemill.transport.kafka.client import connection_errors
from tidemill.transport.kafka.client.errors import answering, unavailable


def code_of(module: str, body: str) -> Callable[..., Any]:
    """Return a function `call(inner)` that looks as if it were written in `module`."""
    written: dict[str, Any] = {"__name__": module}
    exec(f"def call(inner=None):\n    {body}\n", written)  # where it was written is what is tested
    return written["call"]  # type: ignore[no-any-return]


THE_CLIENT = "aiokafka.producer.producer"
OURS = "tidemill.transport.kafka.outbox.publisher"


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


BROKER = ("broker", 9093)
REFUSED = SaslAuthenticationFailed("invalid credentials")


@pytest.fixture(autouse=True)
def nothing_noted() -> Iterator[None]:
    connection_errors.forget(BROKER)
    yield
    connection_errors.forget(BROKER)


async def read(*noted: Exception, error: Exception | None = None, within_s: float = 5.0) -> None:
    """Notice what is noted, then raise the error; without one, never come to an end."""
    async with answering("reading", within_s):
        for each in noted:
            connection_errors.note(BROKER, each)
        if error is not None:
            raise error
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [KafkaConnectionError("Unable to bootstrap"), NodeNotReadyError("node 1")])
async def test_why_there_is_no_connection_is_told_instead_of_that_there_is_none(error: Exception) -> None:
    with pytest.raises(Unavailable, match=r"reading: broker:9093 refuses the login .*SASL_PASSWORD") as told:
        await read(REFUSED, error=error)
    assert told.value.advised


async def test_why_there_is_no_connection_is_told_where_the_client_tries_for_ever() -> None:
    with pytest.raises(Unavailable, match="refuses the login"):
        await read(REFUSED, within_s=0.01)


async def test_what_was_noted_before_or_is_over_is_not_told() -> None:
    connection_errors.note(BROKER, REFUSED)
    with pytest.raises(Unavailable, match="Unable to bootstrap"):
        await read(error=KafkaConnectionError("Unable to bootstrap"))
    with pytest.raises(Unavailable, match="no answer within") as told:
        await read(REFUSED, ConnectionRefusedError("it is unavailable now"), within_s=0.01)
    assert not told.value.advised


def test_tls_that_breaks_off_is_named() -> None:
    error = ssl.SSLError(1, "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version")
    assert "TIDEMILL_KAFKA_SECURITY_PROTOCOL" in str(connection_errors.explain(error, "SSL", "None"))
    assert connection_errors.explain(ConnectionRefusedError("away"), "SSL", "None") is None
