"""Packs as the way in makes them: with the real outcomes, since packs that are unpacked are read again."""

from __future__ import annotations

import asyncio

from tests.support.engine.streams import MARKET_DATA, messages_of
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill.transport.kafka.outbox.packs import KafkaPacks

OUTCOMES = asyncio.run(AvroOutcomeCodec.open(MARKET_DATA.topics, messages_of("outcome"), clock=SystemClock()))
PACKS = KafkaPacks(OUTCOMES)
