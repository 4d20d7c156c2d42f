import stat
from pathlib import Path

import pytest

from tidemill_devkit.stack.errors import DevstackError
from tidemill_devkit.stack.given import GivenServers, given_servers, probe, require_answers
from tidemill_devkit.stack.locate import docker_answers, locate

BOTH = {"TIDEMILL_DATABASE_URL": "postgresql://db/x", "TIDEMILL_KAFKA_BOOTSTRAP": "broker:9092"}


def yes() -> bool:
    return True


def no() -> bool:
    return False


def test_given_servers_come_first() -> None:
    found = locate(environ=BOTH, docker=yes, made_with="native")
    assert found.origin == "given"
    assert found.given == GivenServers("postgresql://db/x", "broker:9092", None)
    assert "TIDEMILL_DATABASE_URL" in found.reason


def test_docker_comes_before_native() -> None:
    assert locate(environ={}, docker=yes).origin == "docker"
    assert locate(environ={}, docker=no).origin == "native"


def test_a_stack_stays_what_it_was_made_with() -> None:
    assert locate(environ={}, docker=yes, made_with="native").origin == "native"


def test_tests_look_only_at_their_own_variables() -> None:
    assert locate(prefix="TIDEMILL_TEST_", environ=BOTH, docker=no).origin == "native"
    own = {name.replace("TIDEMILL_", "TIDEMILL_TEST_"): value for name, value in BOTH.items()}
    assert locate(prefix="TIDEMILL_TEST_", environ=own, docker=no).origin == "given"


def test_who_breaks_servers_looks_at_none() -> None:
    assert locate(prefix=None, environ=BOTH, docker=no).origin == "native"


def test_the_exported_addresses_of_the_stack_itself_are_that_stack() -> None:
    own = GivenServers("postgresql://db/x", "broker:9092", "http://registry")
    assert locate(environ=BOTH, docker=no, made_with="native", own=own).origin == "native"
    elsewhere = GivenServers("postgresql://db/x", "other:9092", None)
    assert locate(environ=BOTH, docker=no, made_with="native", own=elsewhere).origin == "given"


@pytest.mark.parametrize("there", sorted(BOTH))
def test_half_of_the_given_servers_is_an_error_that_names_the_other_half(there: str) -> None:
    (absent,) = BOTH.keys() - {there}
    with pytest.raises(DevstackError, match=f"{there} is set but {absent} is not"):
        given_servers({there: BOTH[there]}, "TIDEMILL_")


def test_an_empty_variable_is_an_unset_one() -> None:
    assert given_servers(dict.fromkeys(BOTH, ""), "TIDEMILL_") is None


def test_given_servers_that_do_not_answer_are_named() -> None:
    given = GivenServers(
        "postgresql://u:secret@127.0.0.1:1/x", "127.0.0.1:2,127.0.0.1:3", "http://127.0.0.1:4/a"
    )
    assert [(one.server, one.answers) for one in probe(given)] == [
        ("postgres", False),
        ("kafka", False),
        ("registry", False),
    ]
    with pytest.raises(
        DevstackError, match=r"postgres at 127\.0\.0\.1:1 \(TIDEMILL_DATABASE_URL\), kafka"
    ) as raised:
        require_answers(given, "TIDEMILL_")
    assert "secret" not in str(raised.value)


def test_an_unreadable_address_is_an_error() -> None:
    with pytest.raises(DevstackError, match="not a list of host:port"):
        probe(GivenServers("postgresql://db/x", "broker:port", None))


def fake_docker(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("script", "answers"),
    [
        pytest.param("echo 27.1", True, id="a daemon answers"),
        pytest.param("echo cannot connect to the daemon >&2; exit 1", False, id="only a client"),
        pytest.param("test $1 != version || echo", False, id="it names no server"),
        pytest.param("test $1 = version && echo 27.1", False, id="no compose"),
    ],
)
def test_docker_counts_when_its_daemon_answers(
    script: str, *, answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_docker(tmp_path, script, monkeypatch)
    assert docker_answers() is answers


def test_without_docker_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not docker_answers()
