"""What goes wrong while servers come up, and what tests do to them on purpose."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.servers.footprint import mounts_with, processes_of
from tests.support.servers.stack import Run, sweep_abandoned_stacks
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill_devkit import stack
from tidemill_devkit.stack import debian, kafka
from tidemill_devkit.stack.cache import ensure
from tidemill_devkit.stack.plan import ServerPlan

MAKE_THE_ROOT = """\
from pathlib import Path
from tidemill_devkit.stack.install import install
from tidemill_devkit.stack.progress import SilentProgress
install("postgres", Path({cache!r}), SilentProgress())
"""
# stands for debootstrap in the middle of its work: it has mounted something and started a program
HALF_WAY = """\
#!/bin/sh
mkdir -p "$3/proc" && mount -t proc proc "$3/proc" && touch "$3/begun"
sleep 600
"""


@pytest.fixture
def interrupted(tmp_path: Path) -> Iterator[Path]:
    """A cache in which an installation of the private root was killed half-way."""
    shim = tmp_path / "bin/debootstrap"
    shim.parent.mkdir()
    shim.write_text(HALF_WAY)
    shim.chmod(0o755)
    cache = tmp_path / "cache"
    script = MAKE_THE_ROOT.format(cache=str(cache))
    environment = {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"}
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as installer:
        eventually_blocking(lambda: list(cache.glob("parts/*/root/begun")), what="the root is half made")
        installer.send_signal(signal.SIGKILL)
    yield cache
    for point in mounts_with(str(tmp_path)):
        subprocess.run(["umount", point], check=False)


def test_an_interrupted_set_up_heals(interrupted: Path) -> None:
    assert mounts_with(str(interrupted)), "the killed one has left a mount"
    assert processes_of(str(interrupted)), "and a program that goes on"

    folder = ensure(debian.PART, lambda partial: (partial / "whole").touch(), cache=interrupted)

    assert mounts_with(str(interrupted)) == []
    assert processes_of(str(interrupted)) == []
    assert list((interrupted / "parts").iterdir()) == [folder]
    assert sorted(path.name for path in folder.iterdir()) == [".complete", "whole"]


@pytest.mark.native
def test_a_server_that_cannot_start_stops_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kafka.plan

    def broken(*arguments: object) -> ServerPlan:
        def command() -> list[str]:
            return ["sh", "-c", "echo no space left; exit 1"]

        return replace(whole(*arguments), command=command)  # type: ignore[arg-type]

    name = f"{run.name}-broken-{run.worker}"
    monkeypatch.setattr(kafka, "plan", broken)
    with pytest.raises(stack.ServerFailedError, match="kafka ended at start") as raised:
        run.stack(name, prefix=None)
    assert "no space left" in str(raised.value)
    assert processes_of(name) == []

    assert {server.condition for server in stack.status(name, prefix=None).servers} == {"down"}


@pytest.mark.breaks_servers
@pytest.mark.parametrize("name", ["postgres", "kafka", "registry"])
def test_a_server_can_be_broken_and_mended(breakable_stack: stack.Stack, name: str) -> None:
    server = breakable_stack.servers[name]
    server.freeze()
    assert (server.life(), server.answers()) == ("frozen", False)
    server.thaw()
    eventually_blocking(server.answers, what=f"{name} answers after the thaw")
    server.kill()
    assert (server.life(), server.answers()) == ("gone", False)
    server.start()
    assert server.answers()
    server.stop()
    assert server.life() == "gone"
    server.freeze()  # nothing there to freeze
    breakable_stack.repair()
    assert all(each.answers() for each in breakable_stack.servers.values())


def test_given_servers_cannot_be_broken() -> None:
    given = stack.Stack("x", "given", "because", "postgresql://db/x", "broker:9092", None)
    assert not given.owned
    with pytest.raises(stack.NotOwnedError, match="kafka was given by the environment"):
        _ = given.kafka


@pytest.mark.native
def test_the_stack_of_a_killed_run_is_taken_down_by_the_next(run: Run) -> None:
    killed = Run(f"{run.uid}k", run.worker)
    script = (
        "import os, signal\n"
        "from tests.support.servers.stack import Run\n"
        f"Run({killed.uid!r}, 'main').stack({killed.name!r}, prefix=None)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=HANGING_S, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert processes_of(killed.name), "its servers have survived it"
    ours = run.breakable_stack()
    sweep_abandoned_stacks()
    assert processes_of(killed.name) == []
    assert ours.kafka.answers(), "the stack of a living run stays"


def test_two_runs_share_nothing(run: Run) -> None:
    first, second = Run("aaaaaaaa", "main"), Run("bbbbbbbb", "main")
    assert first.name != second.name != run.name
    assert Run("aaaaaaaa", "gw0").name == first.name


@pytest.mark.native
def test_kcat_and_the_console_consumer_run(breakable_stack: stack.Stack) -> None:
    listed = [*stack.kcat_command(), "-b", breakable_stack.kafka_bootstrap, "-L"]
    assert (
        "1 brokers"
        in subprocess.run(listed, capture_output=True, text=True, timeout=HANGING_S, check=True).stdout
    )
    usage = subprocess.run(
        [*stack.console_consumer_command(), "--version"],
        capture_output=True,
        text=True,
        timeout=HANGING_S,
        check=True,
    )
    assert kafka.VERSION in usage.stdout
