"""What every `PayloadEncoder` promises, asked of the fake and of Avro alike."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.submissions import MemoryPayloads
from tests.support.engine.codecs import MARKET, NOON, HandClock, market_codec
from tests.support.engine.streams import MARKET_DATA
from tidemill.commands.validation import Validator
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.lane import NO_OFFSET
from tidemill.submissions.ports import PayloadEncoder
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.submissions import AvroPayloads


@pytest.fixture(params=["memory", "avro"])
async def encoder(request: pytest.FixtureRequest) -> PayloadEncoder:
    return (
        MemoryPayloads() if request.param == "memory" else AvroPayloads({"market-data": await market_codec()})
    )


def tick(command_id: str = "one", **fields: Any) -> RecordMarketData:
    facts: dict[str, Any] = {"symbol": "AAPL", "time": NOON, "price": 1.5, "source": "test"} | fields
    return RecordMarketData(command_id=command_id, service_name="s", timestamp=NOON, **facts)


async def test_equal_contents_have_equal_digests_whatever_the_base_fields(encoder: PayloadEncoder) -> None:
    first = await encoder.encode("market-data", tick())
    again = await encoder.encode("market-data", tick("two"))
    other = await encoder.encode("market-data", tick(price=1.25))
    assert first.digest == again.digest != other.digest
    assert first.value != again.value


async def test_one_command_has_one_value(encoder: PayloadEncoder) -> None:
    assert await encoder.encode("market-data", tick()) == await encoder.encode("market-data", tick())


async def test_the_digest_is_that_of_the_intake() -> None:
    codec = await StreamCodec.open(MARKET_DATA, MARKET, clock=HandClock())
    payload = await AvroPayloads({"market-data": codec}).encode("market-data", tick())

    class Record:
        partition, offset, key, headers = 0, NO_OFFSET, b"AAPL", ()
        value = payload.value

    (arrival,) = await Validator(MARKET_DATA, codec).validate([(1, Record())])
    assert arrival.digest == payload.digest
