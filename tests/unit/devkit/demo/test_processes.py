"""The demo's first processes: one that ends is quoted, those that run are ended, logs stay only if needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from tidemill.runtime.service import Exit
from tidemill.settings import Settings
from tidemill_devkit.demo.place import DemoSite, Servers, settings_of
from tidemill_devkit.demo.processes import PROCESSES, ProcessEnded, serving

AWAY = Settings.model_validate(
    {"database": {"url": "postgresql://a:b@127.0.0.1:1/c"}, "kafka": {"bootstrap": "127.0.0.1:1"}}
)
PLACE = DemoSite(
    "20261121-093000", settings_of(AWAY, "20261121-093000", 8), Servers(AWAY, owned=False, seconds=0.0)
)


async def watched(logs: list[Path]) -> None:
    """Wait for a process to end by itself, which raises."""
    async with serving(PLACE) as running:
        logs.append(running.logs)
        await eventually(running.demand_alive)


async def test_a_process_that_ends_is_noticed_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_KAFKA_BOTSTRAP", "")
    logs: list[Path] = []
    with pytest.raises(ProcessEnded, match=r"exit code 2; .*\n.*did you mean TIDEMILL_KAFKA_BOOTSTRAP"):
        await watched(logs)
    assert sorted(path.name for path in logs[0].iterdir()) == sorted(f"{name}.log" for name in PROCESSES)
    shutil.rmtree(logs[0])


def waiting(words: str) -> bool:
    return all(f"{name}: warning service_failed" in words for name in PROCESSES)


async def test_processes_are_ended_and_their_logs_removed() -> None:
    async with serving(PLACE) as running:
        await eventually(
            lambda: waiting(running.last_words()), what="all processes to look for their servers"
        )
        running.demand_alive()
        process_exits = await running.stop()
    assert {process_exit.name: process_exit.exit_code for process_exit in process_exits} == dict.fromkeys(
        PROCESSES, Exit.DRAINED
    )
    assert not running.logs.exists()
