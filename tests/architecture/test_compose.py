"""The compose file, as far as it can be tested without an engine: settings, versions, health, the command line."""

import re
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest

import tidemill
from tests.architecture import compose, test_dockerfile
from tidemill import settings
from tidemill_devkit.stack import docker, kafka, registry
from tidemill_devkit.stack.state import StackState

PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*")
DRAIN = timedelta(seconds=10)


@pytest.mark.parametrize("name", compose.services())
def test_the_image_is_pinned(name: str) -> None:
    image = compose.services()[name]["image"]
    assert PINNED.fullmatch(image)
    assert ":2.30.0" not in image, "TimescaleDB 2.30.0 returns rows twice"


def test_the_images_are_the_versions_that_the_tests_run() -> None:
    services = compose.services()
    assert services["kafka"]["image"].endswith(f":{kafka.VERSION}")
    assert services["registry"]["image"].endswith(f":{registry.VERSION}")
    assert {service["image"] for service in compose.ours().values()} == {f"tidemill:{tidemill.__version__}"}


def test_devstack_finds_its_services_and_its_variables() -> None:
    assert set(docker.SERVICES.values()) <= compose.services().keys()
    state = SimpleNamespace(name="x", password="x", ports=dict.fromkeys(docker.SERVICES, 1))
    given = {line.split("=")[0] for line in docker.environment_file(cast("StackState", state)).splitlines()}
    used = {match["name"] for match in compose.VARIABLE.finditer(compose.TEXT)}
    assert given - {"COMPOSE_PROJECT_NAME"} <= used


def test_every_variable_of_the_file_has_a_default() -> None:
    without = [match[0] for match in compose.VARIABLE.finditer(compose.TEXT) if match["default"] is None]
    assert not without


def test_ports_are_bound_to_loopback() -> None:
    ports = [port for service in compose.services().values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", sorted(compose.endless() - compose.ours().keys()))
def test_a_server_that_is_not_ours_has_a_health_check(name: str) -> None:
    assert compose.services()[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", sorted(compose.endless() & compose.ours().keys()))
def test_a_process_of_ours_keeps_the_check_of_its_image_and_time_to_drain(name: str) -> None:
    service = compose.services()[name]
    assert "healthcheck" not in service
    assert timedelta(seconds=int(service["stop_grace_period"].removesuffix("s"))) > DRAIN


def test_named_volumes_hold_what_must_last() -> None:
    declared = compose.document()["volumes"].keys()
    mounted = {
        mount.split(":")[0] for service in compose.services().values() for mount in service.get("volumes", [])
    }
    assert {mount for mount in mounted if not mount.startswith(".")} == declared


def test_wal_is_archived_into_a_volume() -> None:
    database = compose.services()["timescaledb"]
    flags = [
        value
        for flag, value in zip(database["command"], database["command"][1:], strict=False)
        if flag == "-c"
    ]
    given = dict(flag.split("=", 1) for flag in flags)
    assert given["archive_mode"] == "on"
    assert "/wal-archive/%f" in given["archive_command"]
    assert "wal-archive:/wal-archive" in database["volumes"]


@pytest.mark.parametrize("name", compose.ours())
def test_its_environment_makes_valid_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = {
        key: value for key, value in test_dockerfile.environment().items() if key.startswith("TIDEMILL_")
    }
    environment = image | compose.services()[name]["environment"]
    assert environment.keys() <= {variable.name for variable in settings.variables()}
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    loaded = settings.load()
    assert loaded.kafka.servers() == "kafka:19092"
    if "TIDEMILL_DATABASE_URL" in environment:
        assert loaded.database.dsn("service") != loaded.database.dsn("reader")
    else:
        assert "tidemill_archive:" in loaded.database.dsn("archiver")
    assert loaded.health.host == "0.0.0.0"
