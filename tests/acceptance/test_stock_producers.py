"""What a stock producer sends at a high rate is taken: its batches, not only its records."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

from confluent_kafka import KafkaError, Message, Producer

from tests.support.clients.journeys import Deployment, Tick
from tests.support.waiting import HANGING_S, eventually_blocking

READINGS = 100_000

_COUNTS = """
select (select count(*) from public.market_data) as rows,
       (select count(distinct command_id) from public.market_data) as commands,
       (select sum(applied)::bigint from tm.batch) as applied,
       (select count(*) from tm.log) as logged
"""


def await_all(deployment: Deployment) -> None:
    """Wait until every reading is consumed, for as long as more and more of them are."""
    consumed = 0
    while consumed < READINGS:
        more = partial(more_than, deployment, consumed)
        consumed = eventually_blocking(more, what=f"more than {consumed} to be consumed")


def more_than(deployment: Deployment, before: int) -> int:
    """Return how many are consumed, 0 if there are no more than before."""
    consumed = deployment.consumed()
    return consumed if consumed > before else 0


def test_every_reading_of_a_stock_producer_is_taken_and_applied_once(deployment: Deployment) -> None:
    """confluent-kafka as it comes, with a linger, as its documents advise at high rates."""
    stock = Producer(
        {
            "bootstrap.servers": deployment.client.bootstrap,
            "log_level": 0,
            "linger.ms": 50,
            "partitioner": "murmur2_random",
        }
    )
    reports: list[KafkaError | None] = []

    def note(error: KafkaError | None, _: Message) -> None:
        reports.append(error)

    topic, symbols = deployment.topics.commands, [deployment.symbol(0), deployment.symbol(1)]
    readings = [Tick(symbol, source="s" * 100) for symbol in symbols]
    parts = [reading.value.split(reading.command_id.encode()) for reading in readings]
    for number in range(READINGS):
        head, tail = parts[number % 2]
        value = head + str(uuid4()).encode() + tail
        stock.produce(topic, value, key=symbols[number % 2], on_delivery=note)
    assert stock.flush(HANGING_S) == 0
    assert [str(error) for error in reports if error is not None][:1] == []
    assert len(reports) == READINGS
    deployment.start()
    await_all(deployment)
    (counted,) = deployment.installation.fetch(_COUNTS)
    assert tuple(counted) == (READINGS,) * 4
