"""Hostile payloads among good commands, sent to a process that serves: it lives, and loses nothing."""

import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4
from zlib import crc32

import psutil
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from fastavro import parse_schema, schemaless_writer

from tests.support.clients.outsiders import Outsider, Place, Sending, text_headers
from tests.support.faults import hostile
from tests.support.faults.hostile import GOOD
from tests.support.plug_ins.installed import with_plugins, write_plugin
from tests.support.servers.installation import Installation, Serving, installation_on
from tidemill_devkit.stack import Stack

MEBIBYTE = 1024 * 1024
WARM_UP = 4_000
GOOD_ONES = 10_000
KEYS = 100
LANES = 4
PROBE = hostile.messages()[f"{hostile.NAMESPACE}.SendProbe"].current
COMPRESSED = {
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    "linger.ms": 50,
    "message.max.bytes": 2_000_000,
}
"""Compressed, so that neither the topic's limit nor the producer's of 1 MB keeps the largest one out."""

CONTEXT = """
from pathlib import Path

from sqlalchemy import Column, MetaData, Table, Text, Uuid

from tests.support.faults.hostile import ProbeSent, SendProbe
from tidemill.api import Context, append

probes = Table("probes", MetaData(schema="public"), Column("text", Text), Column("command_id", Uuid))
here = Path(__file__).parent
context = Context(
    aggregate="probes",
    key=lambda command: command.text,
    commands=(append(SendProbe, into=probes, event=ProbeSent),),
    schemas=here / "schemas",
    migrations=here / "migrations",
)
"""
MIGRATION = '''
"""Probes."""
from tidemill.migration import run_script

revision, down_revision, branch_labels, depends_on = "probes_0001", None, ("probes",), "core_0001"

def upgrade():
    run_script("create table public.probes (text text not null, command_id uuid not null)")

def downgrade():
    run_script("drop table public.probes")
'''


@pytest.fixture
def probed(
    stack: Stack, database: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Installation:
    """An installation with the test's own context, a plug-in, on four lanes."""
    schemas = {
        f"schemas/probes/{message.role}s/{name.rpartition('.')[2]}.avsc": message.current.text
        for name, message in hostile.messages().items()
    }
    plugins = tmp_path / "plugins"
    write_plugin(plugins, "probes", CONTEXT, schemas | {"migrations/0001_probes.py": MIGRATION})
    installation = with_plugins(
        installation_on(stack, database, topic_prefix, tmp_path, partitions=LANES), plugins
    )
    monkeypatch.syspath_prepend(plugins)
    monkeypatch.delitem(sys.modules, "probes", raising=False)  # a folder of an earlier try
    for verb in (["migrate"], ["schemas", "register"], ["topics", "create"]):
        installation(*verb)
    return installation


@pytest.fixture
def serving(probed: Installation) -> Iterator[Serving]:
    with probed.serving("commands") as serving:
        yield serving


@pytest.fixture
def outsider(stack: Stack, probed: Installation, serving: Serving) -> Outsider:
    if stack.registry_url is None:
        pytest.skip("needs a schema registry: set TIDEMILL_TEST_REGISTRY_URL too")
    return Outsider(stack.kafka_bootstrap, stack.registry_url, probed.prefix)


class Case(NamedTuple):
    """A hostile value and what must become of it."""

    name: str
    outcome: str
    code: str
    value: bytes

    @property
    def disposition(self) -> tuple[str, str, str]:
        return self[:3]


@dataclass(frozen=True)
class Framing:
    """What stands in front of a body: of a probe, and of a foreign schema."""

    probe: bytes
    foreign: Callable[[str], bytes]

    def cases(self) -> list[Case]:
        """The whole table, each with a command_id of its own where it has one."""
        shared = GOOD["command_id"].encode()
        return [
            Case(case.name, case.outcome, case.code, value.replace(shared, str(uuid4()).encode()))
            for case, value in hostile.values(self.probe, self.foreign)
        ]


@pytest.fixture
def framings(outsider: Outsider) -> Iterator[list[Framing]]:
    """With the registry's ids, where foreign schemas have ids too; and with fingerprints."""
    topic = outsider.topic("commands", "probes")
    with SchemaRegistryClient({"url": outsider.registry}) as registry:

        def framed(subject: str, text: str) -> bytes:
            schema_id: int = registry.register_schema(subject, Schema(text, "AVRO"))
            return b"\x00" + schema_id.to_bytes(4, "big")

        yield [
            Framing(
                framed(f"{topic}-{PROBE.name}", PROBE.text),
                lambda text: framed(f"{topic}-foreign-{crc32(text.encode())}", text),
            ),
            Framing(b"\xc3\x01" + PROBE.fingerprint, hostile.foreign_fingerprint),
        ]


@pytest.fixture
def good(framings: list[Framing]) -> Callable[[int], Sending]:
    """Makes probes that are in order, of many keys, in both framings by turns."""
    parsed = parse_schema(json.loads(PROBE.text))

    def make(number: int) -> Sending:
        body, key = io.BytesIO(), f"key {number % KEYS}"
        own = {"command_id": str(uuid4()), "text": key}
        schemaless_writer(body, parsed, GOOD | own)
        return Sending(key.encode(), framings[number % 2].probe + body.getvalue())

    return make


def peak_rss(serving: Serving) -> int:
    """The most memory that the process ever had, in bytes."""
    status = Path(f"/proc/{serving.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def mixed(good: Callable[[int], Sending], cases: Sequence[Case]) -> list[tuple[Sending, Case | None]]:
    """Good ones, and a hostile one after every so many of them, in each lane by turns."""
    records: list[tuple[Sending, Case | None]] = [(good(number), None) for number in range(GOOD_ONES)]
    distance = GOOD_ONES // len(cases)
    for number, case in enumerate(cases):
        sending = Sending(b"hostile", case.value, partition=number % LANES)
        records.insert(number * (distance + 1), (sending, case))
    return records


def test_hostile_payloads_among_good_ones(
    outsider: Outsider,
    probed: Installation,
    serving: Serving,
    framings: list[Framing],
    good: Callable[[int], Sending],
) -> None:
    topic = outsider.topic("commands", "probes")
    warm = outsider.send(topic, [good(number) for number in range(WARM_UP)], COMPRESSED)
    assert {each["outcome"] for each in outsider.outcomes_of(warm, "probes")} == {"applied"}
    process = psutil.Process(serving.process.pid)
    before, peak_before = process.memory_info().rss, peak_rss(serving)

    records = mixed(good, [case for framing in framings for case in framing.cases()])
    places = outsider.send(topic, [sending for sending, _ in records], COMPRESSED)
    outcomes = outsider.outcomes_of(places, "probes")

    expected = [("", "applied", None) if case is None else case.disposition for _, case in records]
    dispositions = [
        ("" if case is None else case.name, outcome["outcome"], outcome["code"])
        for (_, case), outcome in zip(records, outcomes, strict=True)
    ]
    assert dispositions == expected
    [(rows,)] = probed.fetch("select count(*)::int from public.probes")
    assert rows == WARM_UP + GOOD_ONES
    assert serving.process.poll() is None
    assert serving.health()[0] == 200
    assert process.memory_info().rss - before < 64 * MEBIBYTE
    assert peak_rss(serving) - peak_before < 64 * MEBIBYTE
    parked = {
        place: (case.code, case.value)
        for place, (_, case) in zip(places, records, strict=True)
        if case is not None and case.outcome == "parked"
    }
    assert dead_letters(outsider, len(parked)) == parked


def dead_letters(outsider: Outsider, count: int) -> dict[Place, tuple[str, bytes]]:
    """The first dead letters: where each came from -> its code and its value."""
    found: dict[Place, tuple[str, bytes]] = {}
    with closing(outsider.records(outsider.topic("commands", "probes") + ".dlq")) as letters:
        for letter in islice(letters, count):
            headers = text_headers(letter)
            place = [int(headers[f"__connect.errors.{name}"]) for name in ("partition", "offset")]
            found[Place(*place)] = (headers["__connect.errors.exception.class.name"], letter.value() or b"")
    return found
