"""Commands of kafkajs are applied in the lanes of their keys; a line of the console producer is parked as it came."""

import base64
import json
import subprocess
from uuid import uuid4

import pytest

from tests.acceptance.interop.test_confluent_serializer import KEYS, key, tick
from tests.support.clients.node import run_node
from tests.support.clients.outsiders import Outsider, Place, single_object
from tests.support.servers.installation import Installation, Serving
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.domain.partitioner import partition_of
from tidemill.runtime.resources import schemas_dir
from tidemill_devkit.stack import MissingPrerequisiteError, console_producer_command

LANES = 4


def test_commands_of_kafkajs_are_applied_in_the_lanes_of_their_keys(outsider: Outsider) -> None:
    encode = single_object(schemas_dir() / "market_data" / "commands" / "RecordMarketData.avsc")
    stem = uuid4().hex[:8].upper()
    commands = [tick(f"{stem}{number}") for number in range(KEYS)]
    lines = [
        json.dumps({"key": key(command).decode(), "value": base64.b64encode(encode(command)).decode()})
        for command in commands
    ]
    printed = run_node("produce.js", outsider.bootstrap, outsider.topic("commands"), stdin="\n".join(lines))
    places = [Place(**json.loads(line)) for line in printed.splitlines()]
    assert [place.partition for place in places] == [partition_of(key(each), LANES) for each in commands]
    outcomes = outsider.outcomes_of(places)
    assert [(outcome["command_id"], outcome["outcome"]) for outcome in outcomes] == [
        (command["command_id"], "applied") for command in commands
    ]


def test_a_line_of_the_console_producer_is_parked_as_it_came(
    outsider: Outsider, installed: Installation, serving: Serving
) -> None:
    try:
        program = console_producer_command()
    except MissingPrerequisiteError as missing:
        pytest.skip(str(missing))
    line = f"not Avro {uuid4().hex}"
    where = ["--bootstrap-server", outsider.bootstrap, "--topic", outsider.topic("commands")]
    subprocess.run([*program, *where], input=f"{line}\n".encode(), timeout=HANGING_S, check=True)
    parked = "select count(*)::int from tm.parked where value = convert_to('" + line + "', 'UTF8')"
    eventually_blocking(lambda: installed.fetch(parked) == [(1,)], what="the parked line")
