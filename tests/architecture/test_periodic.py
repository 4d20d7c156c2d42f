"""What is done every so often is made in `runtime`: elsewhere no loop pauses, but for those that say why."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.architecture import tree

PAUSE = re.compile(
    r"^(asyncio|time)\.sleep$|^asyncio\.(timeout|timeout_at|wait_for)$"
    r"|^tidemill\.runtime\.pauses\.stopped_within$|retrier\.pause$"
)
TIMED = "asyncio.wait"
_POLL = "polls until something is so, or a deadline has passed"
_RETRY = "tries again, with pauses that grow, until it succeeds"
_BESIDE = "waits for work of its own, and does something else meanwhile"
LOOPS: dict[str, str] = {
    "src/tidemill/admin/audit/run.py: run": _POLL,
    "src/tidemill/admin/records/publish.py: until_all": _POLL,
    "src/tidemill/app/processes/base.py: _assembled": _RETRY,
    "src/tidemill/archiver/archiver.py: _carried": _BESIDE,
    "src/tidemill/commands/lane_lifecycle.py: _begin_as_compared": _BESIDE,
    "src/tidemill/outbox/backlog_poll.py: _ask": "the pause depends on what was found, and grows while that is nothing",
    "src/tidemill/outbox/send_loop.py: with_retries": _RETRY,
    "src/tidemill/runtime/periodic.py: run": "it is the loop of all services that look now and then",
    "src/tidemill/runtime/service.py: _let_in": "waits for a gate to open, or a stop",
    "src/tidemill/runtime/service.py: _shut": "waits for a gate to shut, and returns then",
    "src/tidemill/runtime/service.py: watch_loop": "measures its own pause: how late the event loop ends it",
    "src/tidemill/runtime/threads.py: in_thread": _BESIDE,
    "src/tidemill/storage/commands/command_store.py: _lock": _BESIDE,
    "src/tidemill/submissions/waits.py: run": "it looks when the next wait is due, which is never the same pause",
    "src/tidemill/storage/migrations/session.py: _within": _POLL,
    "src/tidemill/transport/kafka/catalog/topics.py: _wait_for_leaders": _POLL,
    "src/tidemill/transport/kafka/catalog/topics.py: _wait_for_limits": _POLL,
    "src/tidemill/transport/kafka/client/close.py: kill": _POLL,
    "src/tidemill/transport/kafka/client/lookup.py: leaderless": _POLL,
    "src/tidemill/transport/kafka/submissions/replies.py: _read_again_and_again": _RETRY,
    "src/tidemill_devkit/archiver_conformance/line.py: answer": _POLL,
    "src/tidemill_devkit/demo/archive.py: _until": _POLL,
    "src/tidemill_devkit/demo/poll.py: polled": _POLL,
    "src/tidemill_devkit/demo/watch.py: until_done": _POLL,
    "src/tidemill_devkit/stack/processes.py: _wait_until": _POLL,
    "src/tidemill_devkit/stack/server.py: _wait_until_answering": _POLL,
}
"""Loops that pause and are not the same thing, by `path: function`. The list only shrinks."""


def loops(paths: Iterable[Path]) -> list[str]:
    """Every function with a loop that pauses, as `path: function`."""
    return sorted({f"{path}: {name}" for path in paths for name in pausing(path)})


def pausing(path: Path) -> Iterator[str]:
    pauses = {line for name, line in tree.dotted_names(path) if PAUSE.search(name)}
    for function in ast.walk(tree.syntax(path)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            found = (node for node in ast.walk(function) if isinstance(node, ast.While))
            if any(is_pausing(loop, pauses) for loop in found):
                yield function.name


def is_pausing(loop: ast.While, pauses: set[int]) -> bool:
    nodes = list(ast.walk(loop))
    named = any(isinstance(node, ast.Attribute | ast.Name) and node.lineno in pauses for node in nodes)
    return named or any(isinstance(node, ast.Call) and is_timed(node) for node in nodes)


def is_timed(call: ast.Call) -> bool:
    """A wait for something else, which ends by itself after a while."""
    return ast.unparse(call.func) == TIMED and any(each.arg == "timeout" for each in call.keywords)


def test_what_pauses_between_looks_is_made_in_one_place() -> None:
    found = loops(tree.python_files("src"))
    assert [loop for loop in found if loop not in LOOPS] == []
    assert LOOPS.keys() <= set(found), "these loops are gone: take them out"


def test_a_planted_loop_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "planted.py"
    path.write_text(
        "import asyncio\n"
        "async def look():\n"
        "    while True:\n"
        "        await asyncio.sleep(1)\n"
        "async def wait(self):\n"
        "    while not self.stopping.is_set():\n"
        "        await asyncio.wait({self.task}, timeout=2)\n"
        "async def read(self):\n"
        "    while await self.more():\n"
        "        await asyncio.wait({self.task})\n"
    )
    assert loops([path]) == [f"{path}: look", f"{path}: wait"]
