"""One deployment with every built-in context: random commands of each, deaths in the middle, and all balances."""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import islice

import pytest
from fastavro import parse_schema, schemaless_writer

from tests.acceptance import outsider
from tests.acceptance.outsider_evidence import collections, fact_tables, point_tables
from tests.support.clients.clients import Outgoing
from tests.support.clients.journeys import Deployment
from tests.support.engine.any_commands import random_commands
from tests.support.engine.built_in import BUILT_IN, PARENTS
from tests.support.engine.first_rows import first_commands
from tests.support.waiting import eventually_blocking
from tidemill.app.context_loader import ALL
from tidemill.catalog.schemas import load_messages
from tidemill.domain.context import Context
from tidemill.domain.messages import CommandBase
from tidemill.runtime.resources import schemas_dir
from tidemill.transport.avro.wire import prefix_of_fingerprint
from tidemill_devkit.stack import Stack

KEYS = [f"key-{number}" for number in range(40)]
PER_PORTION = 150
MASTER_KEY = "tests:" + b64encode(bytes(32)).decode()
CONSUMED = """
select aggregate, sum(newest)::bigint as records
from (select aggregate, max(position) as newest from tm.batch join tm.lane using (lane)
      group by aggregate, lane) as lanes
group by aggregate
"""

TABLES = {
    **{name: collection.aggregate for name, collection in collections().items()},
    **{name: facts.aggregate for name, facts in fact_tables().items()},
    **dict.fromkeys(point_tables(), "time-series"),
    **{name.replace("-", "_"): aggregate for name, aggregate in outsider.PROJECTIONS.items()},
    "market_data": "market-data",
    "connector_profiles": "connector-profiles",
}
"""Every table, with its aggregate."""
READ_MODELS = {
    **{name.replace("_", "-"): collection.aggregate for name, collection in collections().items()},
    **outsider.PROJECTIONS,
}


def with_all_contexts(deployment: Deployment) -> Deployment:
    own = {"TIDEMILL_CONTEXTS": ALL, "TIDEMILL_SECRET_KEYS": MASTER_KEY}
    environment = {**deployment.installation.environment, **own}
    chosen = replace(deployment, installation=replace(deployment.installation, environment=environment))
    chosen("migrate")
    chosen("topics", "create")
    return chosen


class Encoder:
    """Writes the commands of a context as the schemas have them."""

    def __init__(self, context: Context) -> None:
        messages = load_messages(schemas_dir(), context.name)
        self._schemas = {
            spec.model: messages[context.full_name(spec.model)].current for spec in context.commands
        }
        self._parsed = {
            model: parse_schema(json.loads(schema.text)) for model, schema in self._schemas.items()
        }

    def __call__(self, command: CommandBase) -> bytes:
        model = type(command)
        buffer = BytesIO()
        buffer.write(prefix_of_fingerprint(self._schemas[model].fingerprint))
        schemaless_writer(buffer, self._parsed[model], command.model_dump())
        return buffer.getvalue()


class Sender:
    """Random commands of one context; the same of one seed."""

    def __init__(self, deployment: Deployment, context: Context, seed: int, keys: Sequence[str]) -> None:
        self._client = deployment.client
        self._topic = f"{deployment.installation.prefix}.{context.aggregate}.commands.v1"
        self._context = context
        self._encode = Encoder(context)
        self._commands = random_commands(context, random.Random(f"{seed} {context.aggregate}"), keys)
        self.sent = 0

    def send(self, count: int) -> None:
        """Send so many commands; they are acknowledged when this returns."""
        self._send(list(islice(self._commands, count)))

    def fill(self) -> None:
        """Send what fills each table that random commands may leave empty."""
        self._send(first_commands(self._context))

    def _send(self, commands: Sequence[CommandBase]) -> None:
        records = [Outgoing(self._context.key(each).encode(), self._encode(each)) for each in commands]
        self._client.send(self._topic, records)
        self.sent += len(records)


class Senders:
    """Random commands of contexts, by default of every one, portion by portion.

    `keys`: of the rows that they are about. Earlier commands are consumed.
    """

    def __init__(
        self,
        deployment: Deployment,
        seed: int,
        contexts: Iterable[Context] = BUILT_IN.values(),
        keys: Sequence[str] = KEYS,
    ) -> None:
        self._deployment = deployment
        self._senders = {context.aggregate: Sender(deployment, context, seed, keys) for context in contexts}
        self._before = self._consumed()

    @property
    def aggregates(self) -> frozenset[str]:
        """The aggregates that get commands."""
        return frozenset(self._senders)

    @property
    def sent(self) -> int:
        """How many commands were sent in all."""
        return sum(sender.sent for sender in self._senders.values())

    def send(self, count: int = PER_PORTION) -> None:
        """Send so many commands of each context; they are acknowledged when this returns."""
        for sender in self._senders.values():
            sender.send(count)

    def fill_tables(self) -> None:
        """Send a row for each table that random commands may leave empty; what others refer to comes first."""
        parents = [each for name, each in self._senders.items() if name in PARENTS.values()]
        for sender in parents:
            sender.fill()
        self.await_consumed()
        for sender in self._senders.values():
            if sender not in parents:
                sender.fill()

    def await_consumed(self) -> None:
        """Wait until the ledger counts all of them."""
        eventually_blocking(lambda: not any(self.missing().values()), what="all commands to be consumed")

    def await_begun(self, count: int) -> None:
        """Wait until the ledger counts so many of those that it lacks, or all of them."""
        bound = max(0, sum(self.missing().values()) - count)
        eventually_blocking(
            lambda: sum(self.missing().values()) <= bound, what=f"{count} more to be consumed"
        )

    def missing(self) -> dict[str, int]:
        """Return how many commands of each aggregate the ledger does not count yet."""
        counted = self._consumed()
        return {
            aggregate: self._before.get(aggregate, 0) + sender.sent - counted.get(aggregate, 0)
            for aggregate, sender in self._senders.items()
        }

    def _consumed(self) -> dict[str, int]:
        return {row["aggregate"]: row["records"] for row in self._deployment.installation.fetch(CONSUMED)}


def test_every_table_that_a_context_declares_is_counted() -> None:
    declared = {
        table.name: context.aggregate
        for context in BUILT_IN.values()
        for table in [
            *(state.table for state in context.states),
            *(spec.appends_to for spec in context.commands if spec.appends_to is not None),
            *(projection.table for projection in context.projections),
        ]
    }
    assert declared == TABLES


def test_a_killed_process_loses_and_doubles_nothing_of_any_context(deployment: Deployment, seed: int) -> None:
    deployment = with_all_contexts(deployment)
    senders = Senders(deployment, seed)
    for _ in range(2):
        worker = deployment.start("all")
        senders.send()
        worker.kill()
        senders.send()
    deployment.start("all")
    senders.fill_tables()
    assert_all_is_there(deployment, senders)
    assert_a_changed_row_is_found(deployment)


@pytest.mark.breaks_servers
@pytest.mark.slow
def test_killed_servers_lose_and_double_nothing_of_any_context(
    breakable_deployment: Deployment, breakable_stack: Stack, seed: int
) -> None:
    deployment = with_all_contexts(breakable_deployment)
    senders = Senders(deployment, seed)
    deployment.start("all")
    for name in ("postgres", "kafka"):
        senders.send()
        breakable_stack.servers[name].kill()
        breakable_stack.servers[name].start()
        senders.send()
    senders.fill_tables()
    assert_all_is_there(deployment, senders)


def assert_all_is_there(deployment: Deployment, senders: Senders) -> None:
    """Every table has rows, and what the topics say, for an outsider and by our own verbs.

    Those of contexts that got no commands are empty.
    """
    senders.await_consumed()
    deployment("audit", "--wait", "300")
    deployment.assert_balanced_by_an_outsider()
    for name, aggregate in READ_MODELS.items():
        if aggregate in senders.aggregates:
            deployment("projections", "verify", name)
    rows = {
        name: deployment.installation.fetch(f"select count(*) from public.{name}")[0][0] for name in TABLES
    }
    wanted = {name for name, aggregate in TABLES.items() if aggregate in senders.aggregates}
    assert {name for name, count in rows.items() if count} == wanted, rows


def assert_a_changed_row_is_found(deployment: Deployment) -> None:
    """So that nobody who balances or verifies looks elsewhere."""
    change = (
        "update public.client_configs set config_data = '{{\"n\": 7}}' where id = (select min(id) from {0})"
    )
    deployment.installation.execute(change.format("public.client_configs"))
    deployment.installation.execute("update public.time_series_numeric_points set number = number + 1000")
    findings = outsider.balance(deployment.evidence())
    changed = {f"event topic -> {name}" for name in ("client_configs", "time_series_numeric_points")}
    # changed points of a superseded revision look removed, and the log knows of no removal
    assert changed <= {finding.hop for finding in findings} <= changed | {"log -> time_series_numeric_points"}
    verified = deployment("projections", "verify", "client-configs", expect=1)
    assert "client-configs" in verified.out + verified.err
