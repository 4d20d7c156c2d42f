"""The programs of README.md and docs/subscribing.md, run as they stand there, with these servers' addresses."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.architecture import tree
from tests.support.installation import Installation
from tests.support.outsiders import Outsider
from tests.support.waiting import eventually_blocking
from tidemill.devstack import kafka, registry
from tidemill.devstack.cache import cache_folder
from tidemill.devstack.java import java_command
from tidemill.resources import schemas_dir

pytestmark = pytest.mark.xdist_group("interop")

PAGES = (Path("README.md"), Path("docs/subscribing.md"))
PROGRAM = re.compile(
    r"^```(?:python|java)\n(?:#|//) (?P<name>\S+)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
TIMEOUT_S = 60.0


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
        for program in PROGRAM.finditer(tree.text(page)):
            text = program["text"]
            for documented, actual in addresses.items():
                text = text.replace(documented, actual)
            (tmp_path / program["name"]).write_text(text)
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
def subscriber(folder: Path) -> Iterator[None]:
    """Run the subscriber until the block ends; it is killed then."""
    log = folder / "subscriber.log"
    with log.open("a") as out:
        child = subprocess.Popen([sys.executable, "subscribe.py"], cwd=folder, stdout=out, stderr=out)
        try:
            yield
        finally:
            child.kill()
            child.wait(10)


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
    with subscriber(here):
        keeps(1.0, 2.0)
    publish(3)
    with subscriber(here):
        keeps(1.0, 2.0, 3.0)


def test_the_java_publisher(here: Path, installed: Installation) -> None:
    java, cache = java_command(), cache_folder()
    if java is None or not (kafka.PART.is_installed(cache) and registry.PART.is_installed(cache)):
        pytest.skip("needs a JVM, and the jars of Kafka and Avro that a native stack has fetched")
    libraries = [kafka.PART.folder(cache) / "libs" / "*"]
    libraries += (registry.PART.folder(cache) / "app" / "lib").glob("org.apache.avro.avro-*.jar")
    command = [java, "-cp", ":".join(map(str, libraries)), "Publish.java"]
    assert_applied(installed, output(command, here).split()[0])
