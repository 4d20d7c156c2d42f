import os
from pathlib import Path

import pytest

from tidemill_devkit.stack import debian, java, postgres
from tidemill_devkit.stack.errors import MissingPrerequisiteError
from tidemill_devkit.stack.install import missing, require_prerequisites


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing on the path, nothing in the cache, an ordinary user; returns the folder of the path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(postgres, "_BUILTIN_PACKAGES", tmp_path / "none")
    monkeypatch.setattr(postgres, "host_programs", lambda: None)
    return programs


def program(folder: Path, name: str, script: str = "") -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_error_names_all_that_is_missing_and_the_choices(bare_machine: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisiteError) as raised:
        require_prerequisites(tmp_path)
    text = str(raised.value)
    assert all(word in text for word in ("JDK", "Maven", "root:"))
    assert all(
        word in text for word in ("TIDEMILL_DATABASE_URL", "TIDEMILL_KAFKA_BOOTSTRAP", "Docker", "install")
    )


def test_an_old_jvm_is_named_with_its_version(bare_machine: Path, tmp_path: Path) -> None:
    program(bare_machine, "java", "echo 'openjdk version \"11.0.2\"' >&2")
    java.version_text.cache_clear()
    assert "is version 11" in java.missing_for_running()[0]


def test_with_everything_nothing_is_missing(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(bare_machine, "java", "echo 'openjdk version \"21\" 2023-09-19'")
    for name in ("mvn", "debootstrap"):
        program(bare_machine, name)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    java.version_text.cache_clear()
    assert missing(tmp_path) == []


def test_root_without_debootstrap_and_apt_is_told_so(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert ["debootstrap" in text for text in debian.missing()] == [True]
    program(bare_machine, "apt-get")
    assert debian.missing() == []


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ("no idea", 0),
    ],
)
def test_java_versions_are_read(text: str, version: int) -> None:
    assert java.major_version(text) == version


def test_java_home_comes_before_the_path(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "jdk"
    (home / "bin").mkdir(parents=True)
    program(home / "bin", "java")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert java.java_command() == str(home / "bin/java")


def packages(folder: Path, major: int, *files: str) -> None:
    for name in files:
        path = folder / str(major) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_hosts_newest_postgresql_with_timescaledb_is_used(tmp_path: Path) -> None:
    assert postgres.host_programs(tmp_path) is None
    packages(tmp_path, 15, "bin/initdb", "lib/timescaledb.so")
    assert postgres.host_programs(tmp_path) is None, "too old"
    packages(tmp_path, 18, "bin/initdb")
    assert postgres.host_programs(tmp_path) is None, "no TimescaleDB"
    packages(tmp_path, 17, "bin/initdb", "lib/timescaledb.so")
    assert postgres.host_programs(tmp_path) == tmp_path / "17/bin"


def test_root_uses_the_hosts_packages_only_where_their_user_can_reach_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "host_programs", lambda: tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres, "reachable_by_others", lambda _folder: False)
    assert postgres.from_host(tmp_path) is None
    monkeypatch.setattr(postgres, "reachable_by_others", lambda _folder: True)
    found = postgres.from_host(tmp_path)
    assert found is not None
    assert found.command("postgres", "-D", "x")[:3] == ["setpriv", "--reuid", "postgres"]


def test_a_folder_that_only_its_owner_may_enter_is_out_of_reach(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    assert not postgres.reachable_by_others(private / "cache")


def test_programs_in_a_private_root_see_its_paths(tmp_path: Path) -> None:
    programs = postgres.from_debian(tmp_path)
    data = tmp_path / "root/var/lib/x"
    assert programs.seen(data) == "/var/lib/x"
    program, user, *_ = programs.command("initdb")
    assert (Path(program).name, user) == ("chroot", "--userspec=postgres:postgres")


def test_the_mirror_is_the_hosts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = (
        "Debian|Debian-Security|main|http://security.example/\n"
        "Vendor|Tools|main|http://tools.example/\n"
        "Debian|Debian|contrib|http://contrib.example/\n"
        "Debian|Debian|main|http://mirror.example/debian/\n"
    )
    monkeypatch.setattr(debian, "output", lambda *_arguments, **_options: listed)
    assert debian._mirror() == ["http://mirror.example/debian/"]


def test_without_a_mirror_debootstrap_knows_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "output", lambda *_arguments, **_options: None)
    assert debian._mirror() == []
