"""The programs of README.md and docs/subscribing.md, run as they stand there, with these servers' addresses."""

import json
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.architecture import tree
from tests.support.clients.clients import Client
from tests.support.clients.outsiders import Outsider, Sending, single_object
from tests.support.servers.installation import Installation
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.domain.identity import fact_id
from tidemill.domain.partitioner import partition_of
from tidemill.runtime.resources import schemas_dir
from tidemill_devkit.stack import MissingPrerequisiteError, kafka, kcat_command, registry
from tidemill_devkit.stack.cache import cache_folder
from tidemill_devkit.stack.java import java_command

PAGES = (Path("README.md"), Path("docs/subscribing.md"))
PROGRAM = re.compile(
    r"^```(?:python|java)\n(?:#|//) (?P<name>\S+)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
TIMEOUT_S = HANGING_S
LANES = 4


@pytest.fixture
def here(outsider: Outsider, tmp_path: Path) -> Path:
    """A folder with all programs and the schemas, as a reader of the pages would have them."""
    addresses = {
        "http://127.0.0.1:8081/apis/ccompat/v7": outsider.registry,
        "127.0.0.1:9092": outsider.bootstrap,
        "tidemill.market-data": f"{outsider.prefix}.market-data",
        "tidemill.replies": f"{outsider.prefix}.replies",
        "tidemill-example": f"{outsider.prefix}-example",
    }
    for page in PAGES:
        text = tree.text(page)
        for documented, actual in addresses.items():
            text = text.replace(documented, actual)
        (tmp_path / page.name).write_text(text)
        for program in PROGRAM.finditer(text):
            (tmp_path / program["name"]).write_text(program["text"])
    (tmp_path / "schemas").symlink_to(schemas_dir())
    return tmp_path


def output(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_applied(installed: Installation, command_id: str) -> None:
    """Wait until a command is known, and see that it took effect."""

    def known() -> bool:
        return installed("command", "show", command_id, expect=None).code == 0

    eventually_blocking(known, TIMEOUT_S, f"the outcome of {command_id}")
    (shown,) = installed("command", "show", command_id, "--json").json()
    assert shown["outcome"] == "applied"


def test_the_readmes_publisher(here: Path, installed: Installation) -> None:
    assert_applied(installed, output([sys.executable, "publish.py"], here).strip())


def test_request_and_reply(here: Path, installed: Installation, outsider: Outsider) -> None:
    admin = AdminClient({"bootstrap.servers": outsider.bootstrap})
    for made in admin.create_topics([NewTopic(f"{outsider.prefix}.replies.example", 1, 1)]).values():
        made.result(TIMEOUT_S)
    outcome, code, command_id, sequence = output([sys.executable, "ask.py"], here).split()
    assert (outcome, code) == ("applied", "None")
    assert int(sequence) > 0
    assert_applied(installed, command_id)


@contextmanager
def subscriber(folder: Path, command: list[str]) -> Iterator[None]:
    """Run a subscriber until the block ends; it is killed then."""
    log = folder / "subscriber.log"
    with log.open("a") as out:
        child = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
        try:
            yield
        finally:
            child.kill()
            child.wait(HANGING_S)


def test_the_subscriber_keeps_every_event_once_though_it_is_killed(
    here: Path, installed: Installation
) -> None:
    symbol = f"DOC{uuid4().hex[:8].upper()}"

    def publish(*prices: int) -> None:
        tick = {"symbol": symbol, "time": "2013-02-01T00:00:00Z", "source": "test"}
        lines = "\n".join(json.dumps(tick | {"price": price}) for price in prices)
        installed("publish", "RecordMarketData", "-", "--wait", stdin=lines)

    def kept() -> list[float]:
        with closing(sqlite3.connect(here / "mine.db")) as store:
            found = store.execute("select price from price where symbol = ? order by rowid", (symbol,))
            return [price for (price,) in found]

    def keeps(*prices: float) -> None:
        eventually_blocking(
            lambda: kept() == list(prices),
            TIMEOUT_S,
            f"{prices} to be kept",
            retry_on=(sqlite3.OperationalError,),  # it has not made its table yet
        )

    publish(1, 2)
    with subscriber(here, [sys.executable, "subscribe.py"]):
        keeps(1.0, 2.0)
    publish(3)
    with subscriber(here, [sys.executable, "subscribe.py"]):
        keeps(1.0, 2.0, 3.0)


# --- kcat ------------------------------------------------------------------------------------------------------------


def documented_kcat(folder: Path, symbol: str) -> list[str]:
    """The page's line that publishes by kcat, with another key and with this machine's kcat."""
    try:
        program = kcat_command()
    except MissingPrerequisiteError as missing:
        pytest.skip(str(missing))
    (line,) = re.findall(
        r"^\$ kcat (.* -P (?:\\\n|.)*)$", (folder / "subscribing.md").read_text(), re.MULTILINE
    )
    words = shlex.split(line.replace("\\\n", " "))
    assert "partitioner=murmur2_random" in words
    return [*program, *(symbol if word == "AAPL" else word for word in words)]


@contextmanager
def where_it_sees_files(command: list[str], folder: Path, name: str) -> Iterator[list[str]]:
    """The command with the path at its end as it is to be called: in a private root it sees nothing else."""
    if len(command) < 2 or not Path(command[1]).is_dir():
        yield [*command[:-1], str(folder / name)]
        return
    inside = Path(command[1]) / "tmp" / uuid4().hex
    inside.write_bytes((folder / name).read_bytes())
    try:
        yield [*command[:-1], f"/tmp/{inside.name}"]  # the root's own
    finally:
        inside.unlink()


def placed_otherwise() -> str:
    """A symbol that librdkafka's own partitioner (a CRC) would have put elsewhere than Java's."""
    symbols = (f"DOC{uuid4().hex[:8].upper()}" for _ in range(1_000))
    return next(
        each for each in symbols if crc32(each.encode()) % LANES != partition_of(each.encode(), LANES)
    )


def test_kcat_publishes(here: Path, installed: Installation) -> None:
    symbol = placed_otherwise()
    program = here / "make_value.py"
    program.write_text(program.read_text().replace("AAPL", symbol))
    made = subprocess.run(
        [sys.executable, program], cwd=here, capture_output=True, timeout=TIMEOUT_S, check=True
    )
    (here / "command.avro").write_bytes(made.stdout)
    command = documented_kcat(here, symbol)
    assert command[-1] == "command.avro"
    with where_it_sees_files(command, here, "command.avro") as kcat:
        output(kcat, here)
        output(kcat, here)

    def rows() -> list[Any]:
        return installed.fetch("select price from public.market_data where symbol = $1", symbol)

    eventually_blocking(rows, TIMEOUT_S, "the row")
    told = installed("tail", "market-data", "--role", "outcomes", "--from-beginning", "--no-follow", "--json")
    outcomes = [each["value"]["outcome"] for each in told.json_lines() if each["key"] == symbol]
    assert outcomes[0] == "applied"
    assert len(rows()) == 1, "the second was the same command"


# --- Java ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def java() -> list[str]:
    """How to run a program of one file that uses Kafka's client and Avro."""
    program, cache = java_command(), cache_folder()
    if program is None or not (kafka.PART.is_installed(cache) and registry.PART.is_installed(cache)):
        pytest.skip("needs a JVM, and the jars of Kafka and Avro that a native stack has fetched")
    libraries = [kafka.PART.folder(cache) / "libs" / "*"]
    libraries += (registry.PART.folder(cache) / "app" / "lib").glob("org.apache.avro.avro-*.jar")
    return [program, "-XX:TieredStopAtLevel=1", "-cp", ":".join(map(str, libraries))]


def test_the_java_publisher(here: Path, installed: Installation, java: list[str]) -> None:
    assert_applied(installed, output([*java, "Publish.java"], here).split()[0])


def test_the_java_program_makes_the_id_of_an_article(here: Path, java: list[str]) -> None:
    values = ("wire", 'https://example.org/"é"')
    made = output(
        ["env", "LC_ALL=C.UTF-8", *java, "ArticleId.java", *values], here
    )  # Java reads arguments by it
    assert made.strip() == fact_id("tidemill.news_articles.RecordNewsArticle", values)


def test_the_java_subscriber_sees_every_event_once_though_it_is_killed(
    here: Path, installed: Installation, outsider: Outsider, java: list[str]
) -> None:
    missed_sooner(here / "Subscribe.java")
    group, topic = f"{outsider.prefix}-example-java", f"{outsider.prefix}.market-data.events.v1"
    symbol = f"DOC{uuid4().hex[:8].upper()}"

    def publish(*prices: int) -> None:
        tick = {"symbol": symbol, "time": "2013-02-01T00:00:00Z", "source": "test"}
        lines = "\n".join(json.dumps(tick | {"price": price}) for price in prices)
        installed("publish", "RecordMarketData", "-", "--wait", stdin=lines)

    def lines() -> list[list[str]]:
        return [
            line.split()
            for line in (here / "subscriber.log").read_text().splitlines()
            if f" {symbol} " in line
        ]

    def sees(*prices: float) -> None:
        eventually_blocking(
            lambda: [float(line[-1]) for line in lines()] == list(prices),
            TIMEOUT_S,
            f"{prices} to be printed",
        )
        last = next(
            seen for seen in Client(outsider.bootstrap).read(topic) if seen.text("ce_id") == lines()[-1][1]
        )
        noted = TopicPartition(topic, last.partition)
        eventually_blocking(
            lambda: next_offset(outsider, group, noted) > last.offset, TIMEOUT_S, "that to be noted"
        )

    publish(1, 2)
    with subscriber(here, [*java, "Subscribe.java"]):
        sees(1.0, 2.0)
    publish(3)
    with subscriber(here, [*java, "Subscribe.java"]):
        sees(1.0, 2.0, 3.0)
    kind, event_id, time, place, key, price = lines()[0]
    assert (kind, key, price) == ("tidemill.market_data.MarketDataRecorded", symbol, "1.0")
    assert re.fullmatch(r"[0-9a-f-]{36}:1 \d{4}-\d\d-\d\dT[\d:.]+Z \d/\d+", f"{event_id} {time} {place}")


def next_offset(outsider: Outsider, group: str, place: TopicPartition) -> int:
    """Return the offset from which the group would read on.

    Who is killed between printing and noting it prints once more: it has no store that does both at once.
    """
    admin = AdminClient({"bootstrap.servers": outsider.bootstrap})
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [place])])
    (found,) = asked[group].result(TIMEOUT_S).topic_partitions
    return int(found.offset)


def missed_sooner(program: Path) -> None:
    """Shorten what the page leaves to Kafka: the 45 s that a killed member's partitions wait for it."""
    text = program.read_text()
    assert '"enable.auto.commit", "false");' in text
    shorter = '"enable.auto.commit", "false", "session.timeout.ms", "6000");'
    program.write_text(text.replace('"enable.auto.commit", "false");', shorter))


def test_the_java_subscriber_drops_repeats_and_stops_at_a_gap(
    here: Path, outsider: Outsider, java: list[str]
) -> None:
    topic = f"{outsider.prefix}.java.events.v1"
    admin = AdminClient({"bootstrap.servers": outsider.bootstrap})
    for made in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        made.result(TIMEOUT_S)
    program = here / "Subscribe.java"
    own_group = {f"{outsider.prefix}.market-data.events.v1": topic, "-example-java": "-example-gap"}
    for documented, actual in own_group.items():
        program.write_text(program.read_text().replace(documented, actual))
    outsider.send(topic, [numbered(sequence) for sequence in (1, 2, 1, 2, 3, 5)])
    done = subprocess.run(
        [*java, program.name], cwd=here, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 1
    assert "partition 0: event 4 is missing, 5 came" in done.stderr
    assert [line.split()[3] for line in done.stdout.splitlines()] == ["0/1", "0/2", "0/3"]


def numbered(sequence: int) -> Sending:
    """An event as somebody might write it who numbers badly; it needs no registry."""
    encode = single_object(schemas_dir() / "market_data" / "events" / "MarketDataRecorded.avsc")
    now = datetime(2024, 5, 1, tzinfo=UTC)
    base = {"command_id": "i", "service_name": "test", "timestamp": now}
    fields = base | {"symbol": "GAP", "time": now, "price": 1.0, "source": "test"}
    headers = {
        "ce_type": "t",
        "ce_id": f"i:{sequence}",
        "ce_time": f"{now:%H:%M}",
        "tm_sequence": str(sequence),
    }
    return Sending(b"GAP", encode(fields), [(name, text.encode()) for name, text in headers.items()])
