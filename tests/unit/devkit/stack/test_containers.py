"""The tests' own containers, as far as they can be tested without a daemon: what one would be asked to do, and when."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture import compose
from tests.support.engine.engine import Engine, serving
from tests.support.servers import containers
from tidemill_devkit import stack as devstack
from tidemill_devkit.stack import docker, native, stack
from tidemill_devkit.stack.progress import SilentProgress
from tidemill_devkit.stack.state import StackState

PORTS = {"postgres": 20001, "kafka": 20002, "registry": 20003, "controller": 20004}
STATE = StackState("test-1", "checkout", "docker", PORTS, "secret", "first")
INSIDE = {"postgres": "5432/tcp", "kafka": "9092/tcp", "registry": "8080/tcp"}
NAMES = {name: f"tidemill-test-1_{service}" for name, service in docker.SERVICES.items()}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A daemon that notes what it is asked; whatever runs in it answers."""
    world = Engine()
    by_address = {address: NAMES[name] for name, address in docker.addresses(STATE).items()}
    monkeypatch.setattr(docker, "answers", lambda _, address: world.states[by_address[address]] == "running")
    with serving(world) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        containers.engine.cache_clear()
        yield world
    containers.engine.cache_clear()


@pytest.fixture
def up(engine: Engine, tmp_path: Path) -> dict[str, containers.ContainerServer]:
    containers.up(STATE, tmp_path, SilentProgress())
    return dict(containers.servers(STATE, tmp_path))


def test_up_makes_the_three_servers_and_no_reaper(up: object, engine: Engine) -> None:
    assert engine.asked == [f"start {name}" for name in NAMES.values()]
    assert set(engine.states.values()) == {"running"}
    assert engine.networks == {"tidemill-test-1"}


@pytest.mark.parametrize("name", NAMES)
def test_a_container_is_what_the_compose_file_says(up: object, engine: Engine, name: str) -> None:
    service = compose.services(**docker.variables(STATE))[docker.SERVICES[name]]
    made = engine.made[NAMES[name]]
    assert made["Image"] == service["image"]
    assert made.get("Cmd") == service.get("command")
    assert made.get("Entrypoint") == service.get("entrypoint")
    there = dict(entry.split("=", 1) for entry in made["Env"])
    added = containers.BROKER_OF_TESTS if name == "kafka" else {}
    assert there == {key: str(value) for key, value in service["environment"].items()} | added
    assert made["HostConfig"]["NetworkMode"] == "tidemill-test-1"
    (endpoint,) = made["NetworkingConfig"]["EndpointsConfig"].values()
    assert endpoint["Aliases"] == [docker.SERVICES[name]]


@pytest.mark.parametrize("name", NAMES)
def test_its_port_is_the_chosen_one_on_loopback_alone(up: object, engine: Engine, name: str) -> None:
    bound = [{"HostIp": "127.0.0.1", "HostPort": str(PORTS[name])}]
    assert engine.made[NAMES[name]]["HostConfig"]["PortBindings"] == {INSIDE[name]: bound}


def test_the_broker_names_the_port_by_which_tests_reach_it(up: object, engine: Engine) -> None:
    (listeners,) = [each for each in engine.made[NAMES["kafka"]]["Env"] if "ADVERTISED" in each]
    assert listeners.endswith("OUTSIDE://127.0.0.1:20002")


def test_the_database_syncs_and_its_volumes_are_of_this_stack(up: object, engine: Engine) -> None:
    made = engine.made[NAMES["postgres"]]
    assert not [word for word in made["Cmd"] if "fsync" in word or "synchronous_commit" in word]
    assert made["HostConfig"]["ShmSize"] == 512 << 20
    data, archive, script = made["HostConfig"]["Binds"]
    assert data == "tidemill-test-1_database:/var/lib/postgresql/data:rw"
    assert archive == "tidemill-test-1_wal-archive:/wal-archive:rw"
    source, _, how = script.partition(":")
    assert Path(source).is_file()
    assert how == "/docker-entrypoint-initdb.d/900_tidemill.sh:ro"


def test_a_test_may_break_one_server(up: dict[str, containers.ContainerServer], engine: Engine) -> None:
    kafka, before = up["kafka"], len(engine.asked)
    kafka.freeze()
    assert (kafka.life(), kafka.answers()) == ("frozen", False)
    kafka.start()
    kafka.kill()
    assert (kafka.life(), kafka.answers()) == ("gone", False)
    for verb in (kafka.kill, kafka.freeze, kafka.thaw):
        verb()  # nothing there to break
    kafka.start()
    kafka.freeze()
    kafka.stop()
    asked = [line.removesuffix(f" {NAMES['kafka']}") for line in engine.asked[before:]]
    assert asked == ["pause", "unpause", "kill", "start", "pause", "unpause", "stop"]
    assert len(engine.made) == 3, "the same container, on the same port"


def test_a_second_up_finds_the_servers(up: object, engine: Engine, tmp_path: Path) -> None:
    before = [*engine.asked]
    containers.up(STATE, tmp_path, SilentProgress())
    assert engine.asked == before


def test_up_makes_a_dead_server_anew_since_its_port_may_be_another(
    up: dict[str, containers.ContainerServer], engine: Engine, tmp_path: Path
) -> None:
    up["kafka"].kill()
    moved = STATE.with_ports(PORTS | {"kafka": 20009})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docker, "answers", lambda *_: True)
        containers.up(moved, tmp_path, SilentProgress())
    (bound,) = engine.made[NAMES["kafka"]]["HostConfig"]["PortBindings"][INSIDE["kafka"]]
    assert bound["HostPort"] == "20009"
    assert engine.asked[-2:] == [f"kill {NAMES['kafka']}", f"start {NAMES['kafka']}"]


def test_down_keeps_the_data_unless_told_otherwise(up: object, engine: Engine, tmp_path: Path) -> None:
    other = "tidemill-test-1-gw0_database"
    kept = {*engine.volumes}
    engine.volumes.add(other)
    assert containers.down(STATE, tmp_path, SilentProgress(), purge=False) == [*NAMES]
    assert (engine.states, engine.networks, engine.volumes) == ({}, set(), kept | {other})
    containers.up(STATE, tmp_path, SilentProgress())
    containers.down(STATE, tmp_path, SilentProgress(), purge=True)
    assert (engine.states, engine.volumes) == ({}, {other})


def test_a_server_that_does_not_answer_shows_its_log_and_nothing_is_left(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "START_TIMEOUT_S", 0.05)
    monkeypatch.setattr(docker, "answers", lambda *_: False)
    with pytest.raises(devstack.ServerFailedError, match="no space left"):
        containers.up(STATE, tmp_path, SilentProgress())
    assert (engine.states, engine.networks) == ({}, set())


@pytest.mark.parametrize(("script", "way"), [("echo 27.1", "docker"), ("exit 1", "native")])
def test_a_daemon_that_answers_decides(
    script: str, way: str, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("TIDEMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(docker, "answers", lambda *_: True)
    monkeypatch.setattr(stack, "require_prerequisites", lambda _: None)
    monkeypatch.setattr(native, "up", lambda state, *_: state)
    made = devstack.up("test-1", prefix=None, containers=containers)
    assert made.origin == way
    assert set(engine.states) == (set(NAMES.values()) if way == "docker" else set())
    assert {type(server) is containers.ContainerServer for server in made.servers.values()} == {
        way == "docker"
    }
