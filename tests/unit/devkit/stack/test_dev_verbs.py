"""`tidemill dev` where servers are given or nothing runs; the rest is in the integration tests."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tidemill_devkit.cli.dev import app
from tidemill_devkit.stack.state import StackState, save, stack_folder


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP", "REGISTRY_URL"):
        monkeypatch.delenv(f"TIDEMILL_{name}", raising=False)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Something that listens stands for both servers; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("TIDEMILL_DATABASE_URL", f"postgresql://u:p@127.0.0.1:{port}/x")
        monkeypatch.setenv("TIDEMILL_KAFKA_BOOTSTRAP", f"127.0.0.1:{port}")
        yield port


def test_status_of_a_stack_that_has_never_been_up() -> None:
    done = CliRunner().invoke(app, ["status", "--json"])
    assert done.exit_code == 1
    described = json.loads(done.stdout)
    assert described["up"] is False
    assert {server["condition"] for server in described["servers"]} == {"down"}
    assert "tidemill dev up" in CliRunner().invoke(app, ["status"]).stdout


def test_given_servers_are_found_up(given: int) -> None:
    done = CliRunner().invoke(app, ["up", "--json"])
    described = json.loads(done.stdout)
    assert (done.exit_code, described["origin"]) == (0, "given")
    assert described["environment"]["TIDEMILL_KAFKA_BOOTSTRAP"] == f"127.0.0.1:{given}"
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 0
    assert "given" in shown.stdout


def test_a_given_server_that_is_away_is_an_error(given: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    done = CliRunner().invoke(app, ["up"])
    assert done.exit_code == 1
    assert "no answer from kafka at 127.0.0.1:1 (TIDEMILL_KAFKA_BOOTSTRAP): start it" in done.stderr
    shown = CliRunner().invoke(app, ["status"])
    assert shown.exit_code == 1
    assert "no answer from kafka at 127.0.0.1:1 (TIDEMILL_KAFKA_BOOTSTRAP): start it" in shown.stdout
    assert "dev up" not in shown.stdout, "it would fail with the same words"
    assert "postgres at" not in shown.stdout, "it answers"


def test_taking_down_nothing_says_so() -> None:
    done = CliRunner().invoke(app, ["down"])
    assert (done.exit_code, done.stdout) == (0, "nothing was running\n")
    assert json.loads(CliRunner().invoke(app, ["down", "--json"]).stdout) == {"stopped": [], "purged": False}
    purged = CliRunner().invoke(app, ["down", "--purge"])
    assert purged.exit_code == 0
    assert purged.stdout.startswith("nothing was running; there were no data to delete: ")


def test_purging_a_stack_that_is_down_says_what_went(tmp_path: Path) -> None:
    ports = dict.fromkeys(("postgres", "kafka", "controller", "registry"), 1)
    known = StackState("mine", str(tmp_path), "native", ports, "p", "g")
    folder = stack_folder("mine", tmp_path)
    save(known, folder)
    kept = CliRunner().invoke(app, ["down", "--name", "mine"])
    assert kept.stdout == "nothing was running\n"
    purged = CliRunner().invoke(app, ["down", "--name", "mine", "--purge"])
    assert purged.stdout.startswith("nothing was running; the data of all three servers are deleted")
    assert str(folder) in purged.stdout
    assert not folder.exists()


@pytest.mark.parametrize("verb", ["up", "down", "status"])
def test_a_bad_name_is_an_error(verb: str) -> None:
    done = CliRunner().invoke(app, [verb, "--name", "../elsewhere"])
    assert done.exit_code == 1
    assert "cannot name a stack" in done.stderr
