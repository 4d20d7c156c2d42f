"""What people install by: the example of an env file, the systemd units, and the commands of docs/install.md."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.architecture import compose, tree
from tests.architecture.test_command_line import parse, verbs
from tests.support.waiting import HANGING_S
from tidemill.runtime.service import EXIT_AFTER_S
from tidemill.settings import load, variables

EXAMPLE = Path(".env.example")
INSTALL = Path("docs/install.md")
UNITS = {path.stem.removeprefix("tidemill-"): path for path in tree.files(".service")}
ALL_UNITS = [pytest.param(path, id=name) for name, path in UNITS.items()]

# Without these a process could gain rights, or reach what it has no business with.
HARDENED = {
    "NoNewPrivileges": "true",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "SystemCallFilter": "@system-service",
}


# --- the env file ----------------------------------------------------------------------------------------------------


def assignments() -> list[tuple[str, str]]:
    """What the example sets, or would set if the line were not a comment."""
    return re.findall(r"^#?(TIDEMILL_\w+)=(.*)$", tree.text(EXAMPLE), re.MULTILINE)


def test_every_variable_of_the_example_is_a_setting_and_stands_there_once() -> None:
    names = [name for name, _ in assignments()]
    assert names
    assert set(names) <= {variable.name for variable in variables()}
    assert len(names) == len(set(names))


def test_the_example_can_be_read_by_systemd_too() -> None:
    """It knows no comment behind a value, and no `export`."""
    lines = [line for line in tree.text(EXAMPLE).splitlines() if line and not line.startswith("# ")]
    assert [line for line in lines if not re.fullmatch(r"#?TIDEMILL_\w+=[^\s\"'#]+", line)] == []


@pytest.mark.parametrize("complete", [False, True], ids=["as it is", "with what is commented out"])
def test_the_example_makes_valid_settings(
    complete: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in variables():
        monkeypatch.delenv(variable.name, raising=False)
    text = tree.text(EXAMPLE)
    if complete:
        text = re.sub(r"^#(?=TIDEMILL_)", "", text, flags=re.MULTILINE)
        text = text.replace("/etc/tidemill/ca.pem", str(tmp_path / "ca.pem"))
        (tmp_path / "ca.pem").touch()
    (tmp_path / "example.env").write_text(text)
    settings = load(tmp_path / "example.env")
    assert settings.kafka.security_protocol == "SASL_SSL"
    assert settings.database.sslmode == "verify-full"


# --- systemd ---------------------------------------------------------------------------------------------------------


def unit(path: Path) -> dict[str, list[str]]:
    """The values of each key, in order; sections do not matter here."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", tree.text(path), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def test_there_is_one_unit_for_every_process() -> None:
    assert UNITS.keys() == verbs("serve") - {"all"}


@pytest.mark.parametrize("path", ALL_UNITS)
def test_a_unit_runs_its_process_by_a_command_that_parses(path: Path) -> None:
    (command,) = unit(path)["ExecStart"]
    program, *arguments = command.split()
    assert Path(program).name == "tidemill"
    assert arguments == ["serve", path.stem.removeprefix("tidemill-")]
    parse(arguments)


@pytest.mark.parametrize("path", ALL_UNITS)
def test_a_unit_gives_a_process_time_to_drain(path: Path) -> None:
    (seconds,) = unit(path)["TimeoutStopSec"]
    grace = {service.get("stop_grace_period") for service in compose.ours().values()}
    assert int(seconds) > EXIT_AFTER_S
    assert grace == {f"{seconds}s"}, "the compose file waits as long"
    assert unit(path)["KillSignal"] == ["SIGTERM"]


@pytest.mark.parametrize("path", ALL_UNITS)
def test_a_unit_restarts_faults_and_is_hardened(path: Path) -> None:
    found = unit(path)
    assert found["Restart"] == ["on-failure"]
    assert {key: found[key] for key in HARDENED} == {key: [value] for key, value in HARDENED.items()}
    assert found["User"] != ["root"]


@pytest.mark.parametrize("path", ALL_UNITS)
def test_a_unit_sets_only_variables_that_exist_and_a_port_of_its_own(path: Path) -> None:
    given = dict(pair.split("=", 1) for pair in unit(path)["Environment"])
    assert given.keys() <= {variable.name for variable in variables()}
    ports = [dict(p.split("=", 1) for p in unit(each)["Environment"]) for each in UNITS.values()]
    assert len({environment["TIDEMILL_HEALTH_PORT"] for environment in ports}) == len(UNITS)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", ALL_UNITS)
def test_systemd_understands_a_unit(path: Path, tmp_path: Path) -> None:
    runnable = tree.text(path).replace("/opt/tidemill/bin/tidemill", "/bin/true")
    copy = tmp_path / path.name
    copy.write_text(runnable)
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGING_S, check=False)
    assert [line for line in done.stderr.splitlines() if path.name in line] == []


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_runs_verbs_in_services_that_the_compose_file_has() -> None:
    calls = re.findall(r"docker compose exec (?:-T )?(\w+) tidemill ([^\n]+)", tree.text(INSTALL))
    assert calls
    for service, line in calls:
        assert service in compose.endless() & compose.ours().keys()
        parse(line.split())


def test_the_page_names_variables_of_the_compose_file() -> None:
    named = set(re.findall(r"\bTIDEMILL_DEV_[A-Z_]+", tree.text(INSTALL)))
    assert named
    assert named <= {match["name"] for match in compose.VARIABLE.finditer(compose.TEXT)}


def test_the_page_runs_verbs_that_parse_with_an_env_file() -> None:
    calls = re.findall(r"^\$ tidemill --env-file \S+ ([^\n#]+)", tree.text(INSTALL), re.MULTILINE)
    assert calls
    for line in calls:
        parse(line.split())


def test_the_page_names_every_extra_and_the_oldest_python() -> None:
    project = tree.text(Path("pyproject.toml"))
    extras = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[", project, re.MULTILINE | re.DOTALL)
    assert extras is not None
    expected = set(re.findall(r"^(\w+) = \[$", extras[1], re.MULTILINE))
    assert set(re.findall(r"^\| `(\w+)` \|", tree.text(INSTALL), re.MULTILINE)) == expected
    assert 'requires-python = ">=3.11"' in project
    assert "| 3.11 or newer |" in tree.text(INSTALL)
