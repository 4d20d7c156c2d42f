"""Up, down and up again, as a person does it: nothing is left, forgotten, or fetched twice."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it re-exports them without saying so
    AdminClient,
    ConfigEntry,
    ConfigResource,
)
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from tests.support.servers.databases import execute, fetch
from tests.support.servers.footprint import mounts_with, processes_of
from tests.support.servers.stack import Run
from tests.support.waiting import HANGING_S
from tidemill_devkit import stack
from tidemill_devkit.stack.cache import cache_folder

# one worker for all of it: each worker would bring up the same stacks again
pytestmark = [pytest.mark.native, pytest.mark.slow]

VERBS = "from tidemill_devkit.cli.dev import app; app()"
# a network of its own has no way out; only its loopback interface has to be switched on
SIOCSIFFLAGS, UP_AND_RUNNING = 0x8914, 0x41
LOOPBACK_ONLY = f"""\
import fcntl, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, {SIOCSIFFLAGS}, struct.pack("16sh", b"lo", {UP_AND_RUNNING}))
{VERBS}
"""


@pytest.fixture
def name(run: Run) -> str:
    """A stack of these tests alone, as `dev up` makes one, up with what the last one left in it."""
    name = f"{run.name}-life-{run.worker}"
    run.stack(name, prefix=None, brief=False)
    return name


def dev(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `tidemill dev` as a person would, with no servers given."""
    return invoke([sys.executable, "-c", VERBS, *arguments], os.environ)


def invoke(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    cleared = {name: value for name, value in environment.items() if not name.startswith("TIDEMILL_")}
    cleared["TIDEMILL_CACHE"] = str(cache_folder())
    return subprocess.run(
        command, env=cleared, capture_output=True, text=True, timeout=HANGING_S, check=False
    )


def environment_of(name: str) -> dict[str, str]:
    described = json.loads(dev("status", "--name", name, "--json").stdout)
    return {variable.removeprefix("TIDEMILL_"): value for variable, value in described["environment"].items()}


def admin_of(bootstrap: str) -> AdminClient:
    # it goes on looking for its broker, and says so, until it is collected
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def topics_at(bootstrap: str) -> set[str]:
    return set(admin_of(bootstrap).list_topics(timeout=HANGING_S).topics)


def tables_at(url: str) -> set[str]:
    return {row[0] for row in fetch(url, "SELECT tablename FROM pg_tables")}


def write_everywhere(at: Mapping[str, str]) -> int:
    """A row, a topic and a schema; returns the schema's id."""
    fresh = ("CREATE TABLE IF NOT EXISTS kept ()", "TRUNCATE kept", "INSERT INTO kept DEFAULT VALUES")
    execute(at["DATABASE_URL"], *fresh)
    admin = admin_of(at["KAFKA_BOOTSTRAP"])
    if "kept" not in topics_at(at["KAFKA_BOOTSTRAP"]):
        admin.create_topics([NewTopic("kept", 3, 1)])["kept"].result(20)
    with SchemaRegistryClient({"url": at["REGISTRY_URL"]}) as registry:
        registry.register_schema("first", Schema('{"type": "long"}', "AVRO"))
        return int(registry.register_schema("kept", Schema('"string"', "AVRO")))


def read_everywhere(at: Mapping[str, str]) -> tuple[int, bool, int | None]:
    """The row count, whether the topic is there, and the schema's id."""
    rows = fetch(at["DATABASE_URL"], "SELECT count(*) FROM kept")[0][0]
    there = "kept" in topics_at(at["KAFKA_BOOTSTRAP"])
    with SchemaRegistryClient({"url": at["REGISTRY_URL"]}) as registry:
        return rows, there, registry.get_latest_version("kept").schema_id


def test_down_leaves_nothing_and_up_forgets_nothing(name: str) -> None:
    assert processes_of(name), "the search for processes finds them while they run"
    addresses = environment_of(name)
    schema_id = write_everywhere(addresses)

    stopped = dev("down", "--name", name, "--json")
    assert set(json.loads(stopped.stdout)["stopped"]) == {"postgres", "kafka", "registry"}
    assert processes_of(name) == []
    assert mounts_with(str(cache_folder())) == []
    assert dev("status", "--name", name).returncode == 1

    assert dev("up", "--name", name).returncode == 0
    assert environment_of(name) == addresses, "the ports are kept"
    assert read_everywhere(addresses) == (1, True, schema_id)


def test_purge_deletes_the_data_of_all_three(name: str) -> None:
    write_everywhere(environment_of(name))
    purged = dev("down", "--name", name, "--purge")
    assert purged.returncode == 0
    assert purged.stdout.startswith(
        "stopped postgres, kafka, registry; the data of all three servers are deleted"
    )
    assert processes_of(name) == []
    assert folders_of(name) == []


def test_what_is_acknowledged_stays(name: str) -> None:
    """No server was made quicker by forgetting: what is measured and promised here must hold elsewhere."""
    at = environment_of(name)
    durable = ("fsync", "synchronous_commit", "full_page_writes")
    wanted = dict.fromkeys(durable, "on")
    found = fetch(
        at["DATABASE_URL"], "SELECT name, setting FROM pg_settings WHERE name = ANY ($1)", list(durable)
    )
    assert {row["name"]: row["setting"] for row in found} == wanted

    broker = settings_of_broker(at["KAFKA_BOOTSTRAP"])
    flushing = {setting for setting in broker if "flush" in setting}
    assert "log.flush.interval.messages" in flushing
    assert {setting for setting in flushing if not broker[setting].is_default} == set()
    assert broker["unclean.leader.election.enable"].value == "false"


def settings_of_broker(bootstrap: str) -> dict[str, ConfigEntry]:
    broker = ConfigResource(ConfigResource.Type.BROKER, "1")
    admin = admin_of(bootstrap)  # it has to live until it is answered
    (asked,) = admin.describe_configs([broker]).values()
    return dict(asked.result(HANGING_S))


def test_a_second_up_needs_neither_network_nor_installers(name: str, tmp_path: Path) -> None:
    stack.down(name)
    for program in ("mvn", "debootstrap", "apt-get", "dpkg", "curl", "wget"):
        shim = tmp_path / program
        shim.write_text(f"#!/bin/sh\ntouch {tmp_path}/called-{program}\nexit 1\n")
        shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["unshare", "--net", sys.executable, "-c", LOOPBACK_ONLY, "up", "--name", name]
    done = invoke(command, environment)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("called-*"))
    assert {server.life() for server in owned(name)} == {"running"}
    stack.down(name)  # nobody outside that network could reach them


def folders_of(name: str) -> list[str]:
    """All folders of the cache that are called `name`, while other stacks come and go beside it."""
    walked = os.walk(cache_folder(), onerror=None)
    return [str(Path(folder, name)) for folder, inside, _ in walked if name in inside]


def owned(name: str) -> list[stack.Server]:
    found = stack.status(name, prefix=None).stack
    assert found is not None
    return list(found.servers.values())


def test_two_stacks_at_once_do_not_touch_each_other(name: str, breakable_stack: stack.Stack) -> None:
    this = environment_of(name)
    write_everywhere(this)
    assert "kept" not in tables_at(breakable_stack.database_url)
    assert "kept" not in topics_at(breakable_stack.kafka_bootstrap)
    stack.down(name)
    assert all(server.answers() for server in breakable_stack.servers.values())


def test_data_of_one_server_lost_means_all_three_start_empty(name: str) -> None:
    addresses = environment_of(name)
    write_everywhere(addresses)
    stack.down(name)
    registry = cache_folder() / "stacks" / name / "registry"
    (registry / "generation").unlink()
    done = dev("up", "--name", name)
    assert done.returncode == 0, done.stderr
    assert "all three start empty" in done.stderr
    assert "kept" not in tables_at(addresses["DATABASE_URL"])
    assert "kept" not in topics_at(addresses["KAFKA_BOOTSTRAP"])


def test_a_server_that_nobody_remembers_is_found_and_replaced(name: str) -> None:
    """A run may be killed after it started a server and before it noted its process."""
    for note in (cache_folder() / "stacks" / name).glob("*.pid"):
        note.unlink()
    forgotten = processes_of(name)
    stack.up(name, prefix=None)
    assert not set(forgotten) & set(processes_of(name))
    assert stack.status(name, prefix=None).is_up
