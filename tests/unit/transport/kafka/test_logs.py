"""A flood of lines that are all alike is held back, and counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tidemill.transport.kafka.logs import Limiter, limit_client_logs


def line(
    at: float, message: str = "Unable connect to node with id %s", level: int = logging.ERROR
) -> logging.LogRecord:
    record = logging.LogRecord("aiokafka", level, __file__, 1, message, (7,) if "%s" in message else (), None)
    record.created = at
    return record


def passed(limiter: Limiter, records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records if limiter.filter(record)]


def test_the_first_lines_of_a_kind_pass_and_the_next_period_counts_the_rest() -> None:
    limiter = Limiter(first=2, every_s=60)
    flood = [line(second / 10) for second in range(600)]
    assert passed(limiter, flood) == ["Unable connect to node with id 7"] * 2
    assert passed(limiter, [line(60.0), line(60.1), line(60.2)]) == [
        "Unable connect to node with id 7 (lines_held_back: 598)",
        "Unable connect to node with id 7",
    ]


def test_kinds_do_not_hold_each_other_back() -> None:
    limiter = Limiter(first=1, every_s=60)
    kinds = [line(0, "one"), line(0, "two"), line(0, "one", logging.WARNING), line(1, "one")]
    assert passed(limiter, kinds) == ["one", "two", "one"]


@pytest.fixture
def clean_loggers() -> Iterator[None]:
    yield
    limit_client_logs(Limiter(first=10**9))


def test_every_logger_of_the_client_is_limited_once(
    clean_loggers: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limit_client_logs(Limiter(first=5))
    limit_client_logs(Limiter(first=2))
    for name in ("aiokafka", "aiokafka.producer.sender", "aiokafka.consumer.fetcher", "aiokafka.conn"):
        caplog.clear()
        for _ in range(10):
            logging.getLogger(name).error("Failed fetch messages from %s", 1)
        assert len(caplog.records) == 2, name
