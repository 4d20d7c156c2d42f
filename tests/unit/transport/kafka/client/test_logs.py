"""A flood of lines that are all alike is held back, and counted."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from aiokafka.consumer import group_coordinator

from tests.support.waiting import eventually_blocking
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import configure_logging, logger
from tidemill.transport.kafka.client import close
from tidemill.transport.kafka.client.logs import _HARMLESS, Limiter, limit_client_logs


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


def test_what_the_client_tries_again_by_itself_is_no_error(
    clean_loggers: None, caplog: pytest.LogCaptureFixture
) -> None:
    limit_client_logs(Limiter(first=5))
    log = logging.getLogger("aiokafka.consumer.group_coordinator")
    log.error("Group Coordinator Request failed: %s", "GroupCoordinatorNotAvailableError")
    log.error("Error sending %s to node %s [%s] -- marking coordinator dead", "JoinGroupRequest_v5", 1, "x")
    log.error("Heartbeat session expired - marking coordinator dead")
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "ERROR"]


def test_the_client_still_has_the_messages_that_are_no_errors() -> None:
    source = Path(group_coordinator.__file__).read_text()
    assert all(f'"{message}"' in source for message in _HARMLESS)


def test_messages_that_are_no_templates_do_not_fill_the_memory() -> None:
    limiter = Limiter(first=1, every_s=60, max_kinds=10)
    assert passed(limiter, [line(0, "the same")]) == ["the same"]
    for number in range(10_000):
        assert passed(limiter, [line(0, f"no such node: {number}"), line(0, "the same")])[1:] == []
    assert len(limiter._seen) <= 10


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


@pytest.fixture
def clean_logging() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    configure_logging(stream=out, style="json")
    yield out
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_clients_that_are_cut_off_are_told_of_like_a_flood(
    clean_loggers: None, clean_logging: io.StringIO
) -> None:
    limit_client_logs(Limiter(first=1, every_s=0.05))
    written = 0

    def told_how_many_were_held_back() -> bool:
        nonlocal written
        logger(close.__name__).info(Log.CLIENT_CUT_OFF, client="AIOKafkaProducer", after_s=3.0)
        written += 1
        return "lines_held_back" in clean_logging.getvalue()

    eventually_blocking(told_how_many_were_held_back, what="the number of lines held back")
    told = [json.loads(each) for each in clean_logging.getvalue().splitlines()]
    assert {each["event"] for each in told} == {Log.CLIENT_CUT_OFF}
    assert len(told) + told[-1]["lines_held_back"] == written
