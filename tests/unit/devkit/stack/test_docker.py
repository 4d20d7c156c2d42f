"""The Docker way as far as it can be tested without an engine: what would be run, and when."""

from pathlib import Path

import pytest

from tidemill_devkit.stack import docker
from tidemill_devkit.stack.errors import CommandFailedError
from tidemill_devkit.stack.progress import SilentProgress
from tidemill_devkit.stack.state import StackState

PORTS = {"postgres": 20001, "kafka": 20002, "registry": 20003, "controller": 20004}
STATE = StackState("dev-1", "checkout", "docker", PORTS, "secret", "first")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that writes down its arguments, and fails or answers as files tell it."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n'
        f'case "$*" in *" up "*) test ! -e {tmp_path}/fail ;; *" ps "*) cat {tmp_path}/state ;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path / "calls"


def verbs(calls: Path) -> list[str]:
    """What came behind the options that name project and files."""
    return [line.split("docker-compose.yml ", 1)[1] for line in calls.read_text().splitlines()]


def test_up_starts_the_three_servers_and_waits(calls: Path, tmp_path: Path) -> None:
    docker.up(STATE, tmp_path / "dev-1", SilentProgress())
    assert verbs(calls) == ["up --detach --wait timescaledb kafka registry"]
    assert "--project-name tidemill-dev-1 " in calls.read_text()


def test_a_failed_up_stops_what_it_started(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "fail").touch()
    with pytest.raises(CommandFailedError, match="docker compose up"):
        docker.up(STATE, tmp_path / "dev-1", SilentProgress())
    assert verbs(calls)[1:] == ["stop timescaledb kafka registry"]


@pytest.mark.parametrize(("purge", "verb"), [(False, "down"), (True, "down --volumes")])
def test_down_keeps_the_volumes_unless_told_otherwise(
    calls: Path, tmp_path: Path, purge: bool, verb: str
) -> None:
    (tmp_path / "state").write_text("running\n")
    assert docker.down(STATE, tmp_path / "dev-1", SilentProgress(), purge=purge) == [
        "postgres",
        "kafka",
        "registry",
    ]
    assert verbs(calls)[-1] == verb


def test_ports_and_password_reach_the_compose_file(calls: Path, tmp_path: Path) -> None:
    docker.project(STATE, tmp_path / "dev-1")
    written = tmp_path / "dev-1/compose.env"
    assert written.stat().st_mode & 0o077 == 0
    assert "TIDEMILL_DEV_KAFKA_PORT=20002\n" in written.read_text()
    assert "TIDEMILL_DEV_POSTGRES_PASSWORD=secret\n" in written.read_text()


@pytest.mark.parametrize(
    ("state", "life"), [("running", "running"), ("paused", "frozen"), ("exited", "gone"), ("", "gone")]
)
def test_the_life_of_a_container(calls: Path, tmp_path: Path, state: str, life: str) -> None:
    (tmp_path / "state").write_text(state)
    assert docker.servers(STATE, tmp_path / "dev-1")["kafka"].life() == life


def test_a_test_may_break_one_server(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("paused")
    kafka = docker.servers(STATE, tmp_path / "dev-1")["kafka"]
    kafka.kill()
    kafka.freeze()
    kafka.start()
    done = [verb for verb in verbs(calls) if not verb.startswith("ps")]
    assert done == ["kill kafka", "pause kafka", "unpause kafka", "up --detach --wait --no-deps kafka"]


def test_addresses_are_those_of_the_chosen_ports(calls: Path, tmp_path: Path) -> None:
    addresses = {name: server.address for name, server in docker.servers(STATE, tmp_path / "dev-1").items()}
    assert addresses == {
        "postgres": "127.0.0.1:20001",
        "kafka": "127.0.0.1:20002",
        "registry": "http://127.0.0.1:20003/apis/ccompat/v7",
    }
