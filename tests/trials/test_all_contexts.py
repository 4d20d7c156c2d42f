"""Every built-in context under random commands, while its processes and the servers are killed in the middle.

`TIDEMILL_CONTEXT_TRIALS=full` takes all contexts and more kills; otherwise it is one context of each kind and a few.
Commands, contexts and kills follow the seed of the run, `TIDEMILL_TEST_SEED`. `-s` shows what was done.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from tests.acceptance.conftest import make_deployment
from tests.acceptance.test_all_contexts import Senders, assert_all_is_there, with_all_contexts
from tests.support.clients.journeys import Deployment, Worker
from tests.support.engine.built_in import FULL, chosen_contexts, with_parents
from tidemill_devkit.stack import Stack

KILLS, PORTION = (24, 300) if FULL else (2, 100)
PROCESSES = ("first", "second")
VICTIMS = (*PROCESSES * 3, "postgres", "kafka")
"""Processes share the lanes; one of them is killed three times as often as a server."""


class Battle:
    """A deployment of two processes that are killed, and started again at once."""

    def __init__(self, deployment: Deployment, stack: Stack) -> None:
        self._deployment = deployment
        self._stack = stack
        self._workers: dict[str, Worker] = {name: deployment.start("all") for name in PROCESSES}
        self.killed: Counter[str] = Counter()

    def kill(self, victim: str) -> None:
        """Kill a process or a server, and start it again."""
        self.killed[victim] += 1
        if victim in self._workers:
            self._workers[victim].kill()
            self._workers[victim] = self._deployment.launch("all")
        else:
            self._stack.servers[victim].kill()
            self._stack.servers[victim].start()


@pytest.fixture
def deployment(
    breakable_stack: Stack, breakable_database: str, unique_name: Callable[[str], str], tmp_path: Path
) -> Iterator[Deployment]:
    """A deployment with every context on servers that may be broken; it ends with the test."""
    with ExitStack() as exit_stack:
        prefix = unique_name("trial")
        plain = make_deployment(breakable_stack, breakable_database, prefix, 2, tmp_path, exit_stack)
        yield with_all_contexts(plain)


@pytest.mark.breaks_servers
@pytest.mark.timeout(3600)
def test_kills_in_the_middle_lose_and_double_nothing(
    deployment: Deployment, breakable_stack: Stack, seed: int
) -> None:
    source = Random(seed)
    contexts = with_parents(chosen_contexts())
    senders = Senders(deployment, seed, contexts)
    battle = Battle(deployment, breakable_stack)
    for _ in range(KILLS):
        senders.send(source.randint(PORTION // 2, PORTION))
        senders.await_begun(source.randint(1, PORTION))
        battle.kill(source.choice(VICTIMS))
    senders.send(PORTION)
    senders.fill_tables()
    assert_all_is_there(deployment, senders)
    names = ", ".join(context.name for context in contexts)
    sys.stdout.write(f"\nseed {seed}: {senders.sent:,} commands of {names}; killed: {dict(battle.killed)}\n")
