"""One deployment with every built-in context: random commands of each, deaths in the middle, and all balances."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice

from tests.acceptance.outsider_evidence import collections
from tests.support.clients.clients import Outgoing
from tests.support.clients.journeys import Deployment
from tests.support.engine.any_commands import random_commands
from tests.support.engine.commands import Topic
from tests.support.waiting import eventually_blocking
from tidemill.app.context_loader import ALL, load_contexts
from tidemill.domain.stream import Stream

KEYS = [f"key-{number}" for number in range(40)]
PER_PORTION = 150
CONSUMED = """
select aggregate, sum(newest)::bigint as records
from (select aggregate, max(position) as newest from tm.batch join tm.lane using (lane)
      group by aggregate, lane) as lanes
group by aggregate
"""

AGGREGATES = {collection.aggregate for collection in collections().values()}
ENTITY_CONTEXTS = [context for context in load_contexts(ALL) if context.aggregate in AGGREGATES]


def with_all_contexts(deployment: Deployment) -> Deployment:
    environment = {**deployment.installation.environment, "TIDEMILL_CONTEXTS": ALL}
    chosen = replace(deployment, installation=replace(deployment.installation, environment=environment))
    chosen("migrate")
    chosen("topics", "create")
    return chosen


class Senders:
    """Random commands of every entity context, portion by portion; the same of one seed."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self._deployment = deployment
        self._streams = {
            context.aggregate: replace(Stream.of(context), partitions=deployment.partitions)
            for context in ENTITY_CONTEXTS
        }
        self._commands = {
            context.aggregate: random_commands(context, random.Random(seed), KEYS)
            for context in ENTITY_CONTEXTS
        }
        self.sent = dict.fromkeys(self._streams, 0)

    def send(self, count: int = PER_PORTION) -> None:
        """Send so many commands of each context; they are acknowledged when this returns."""
        for aggregate, stream in self._streams.items():
            topic = Topic(stream)
            records = [topic.record(command) for command in islice(self._commands[aggregate], count)]
            name = f"{self._deployment.installation.prefix}.{aggregate}.commands.v1"
            outgoing = [Outgoing(each.key, each.value, each.partition) for each in records]
            self._deployment.client.send(name, outgoing)
            self.sent[aggregate] += len(records)

    def await_consumed(self) -> None:
        """Wait until the ledger counts all of them."""
        eventually_blocking(self._is_consumed, what="all commands to be consumed")

    def _is_consumed(self) -> bool:
        counted = {row["aggregate"]: row["records"] for row in self._deployment.installation.fetch(CONSUMED)}
        return all(counted.get(aggregate, 0) >= count for aggregate, count in self.sent.items())


def test_a_killed_process_loses_and_doubles_nothing_of_any_context(deployment: Deployment) -> None:
    deployment = with_all_contexts(deployment)
    senders = Senders(deployment, seed=1)
    for _ in range(2):
        worker = deployment.start("all")
        senders.send()
        worker.kill()
        senders.send()
    deployment.start("all")
    senders.await_consumed()
    deployment("audit", "--wait", "300")
    deployment.assert_balanced_by_an_outsider()
