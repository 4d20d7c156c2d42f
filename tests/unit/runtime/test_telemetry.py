"""Logs are one stream without secrets; metrics follow the naming rules."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import Gauge

from tests.architecture import tree
from tidemill.runtime.telemetry import metrics
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import LogFormat, configure_logging, logger
from tidemill.runtime.telemetry.metrics import REGISTRY

CANARY = "c4n4ry-s3cr3t"


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def everything_that_may_leak() -> None:
    log = logger("tidemill.somewhere")
    log.info(Log.PROCESS_STARTED, note=f"connects with {CANARY}", password="something else")
    log.info(
        Log.PROCESS_STARTED, nested={"list": [CANARY, {"deep": f"<{CANARY}>"}], "secret": 1}, set={CANARY}
    )
    log.info(Log.PROCESS_STARTED, error=ValueError(CANARY))
    free_text = f"an event that is no constant: {CANARY}"
    log.info(free_text)
    log.info(Log.PROCESS_STARTED, url="postgresql://user:unknown-password@db/x")
    logging.getLogger("asyncpg").warning("failed for %s", CANARY)
    logging.getLogger("aiokafka.conn").debug("value=%s", "the value of a record")
    try:
        raise ValueError(f"in an exception: {CANARY}")
    except ValueError:
        log.exception(Log.SERVICE_FAILED)
        logging.getLogger("asyncpg").exception("boom")


@pytest.mark.parametrize("style", ["json", "console", "auto"])
def test_a_secret_never_reaches_a_log(style: LogFormat) -> None:
    out = io.StringIO()
    configure_logging("DEBUG", style, secrets=[CANARY], stream=out)
    everything_that_may_leak()
    written = out.getvalue()
    assert "in an exception" in written
    assert written.count("process_started") == 4
    assert CANARY not in written
    assert "unknown-password" not in written
    assert "something else" not in written


def test_the_kafka_client_never_prints_what_records_hold() -> None:
    out = io.StringIO()
    configure_logging("DEBUG", "json", stream=out)
    everything_that_may_leak()
    assert "the value of a record" not in out.getvalue()


def test_both_ways_to_log_give_one_form() -> None:
    out = io.StringIO()
    configure_logging("INFO", "json", stream=out)
    structlog.contextvars.bind_contextvars(process="commands")
    try:
        logger("tidemill.a").info(Log.LANES_CLAIMED, aggregate="market-data", lanes="1-4")
        logging.getLogger("library").warning("something %s", "happened")
    finally:
        structlog.contextvars.clear_contextvars()
    ours, theirs = (json.loads(line) for line in out.getvalue().splitlines())
    assert (ours["event"], ours["lanes"], ours["level"]) == ("lanes_claimed", "1-4", "info")
    assert (theirs["event"], theirs["logger"]) == ("something happened", "library")
    assert ours.keys() - theirs.keys() == {"aggregate", "lanes"}
    assert ours["process"] == theirs["process"] == "commands"


def test_below_the_level_nothing_is_written() -> None:
    out = io.StringIO()
    configure_logging("WARNING", "json", stream=out)
    logger("tidemill.a").info(Log.LANES_CLAIMED)
    assert out.getvalue() == ""


def test_metrics_are_named_by_the_rules() -> None:
    ours = [family for family in REGISTRY.collect() if family.name.startswith("tidemill_")]
    assert len(ours) > 15
    for family in ours:
        assert re.fullmatch(r"tidemill_[a-z]+(_[a-z]+)*", family.name)
        assert family.documentation


def test_no_metric_is_labelled_with_an_id() -> None:
    allowed = {
        "aggregate",
        "by",  # how events were folded: numpy or python
        "code",
        "collection",  # one that contexts declare
        "dependency",
        "error",
        "hop",
        "kind",  # of an entry of the journal
        "method",
        "name",  # of an aggregate or a projection
        "operation",
        "outcome",
        "pool",
        "process",
        "projection",
        "reason",  # what was wrong with credentials: one of a list
        "result",
        "role",
        "route",  # the template, never a path
        "schema",  # of a schema that lanes wait for: its series ends with the wait
        "service",
        "source",  # of an outcome: reply or log
        "state",
        "status",  # its class: 2xx
        "table",
        "tier",
        "version",
    }
    used = {
        label for collector in REGISTRY._collector_to_names for label in getattr(collector, "_labelnames", ())
    }
    assert used
    assert used <= allowed


def test_every_metric_and_log_event_is_used() -> None:
    lists = ("metrics.py", "log_events.py")
    source = "".join(tree.text(path) for path in tree.python_files("src") if path.name not in lists)
    listed = [
        name
        for name, value in vars(metrics).items()
        if name.isupper() and type(value).__name__ in {"Counter", "Gauge", "Histogram"}
    ]
    assert len(listed) > 15
    assert [name for name in listed if not re.search(rf"\b{name}\.", source)] == []
    assert [event.name for event in Log if f"Log.{event.name}" not in source] == []


@pytest.mark.parametrize("gauge", [metrics.COMMAND_LAG, metrics.PROJECTION_LAG])
def test_a_metric_that_each_process_tells_whole_says_so(gauge: Gauge) -> None:
    """Summed, it would grow with every replica."""
    assert f"max by ({gauge._labelnames[0]}), not sum" in gauge._documentation
