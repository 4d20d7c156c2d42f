"""Rebuilding states of entities beside processes that serve: under load, and after a kill while lanes are locked."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg

from tests.acceptance.test_all_contexts import Senders, with_all_contexts
from tests.support.clients.journeys import Deployment
from tests.support.engine.built_in import chosen_contexts, with_parents
from tests.support.waiting import eventually
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.domain.context import Context
from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream

CALM = [f"calm-{number}" for number in range(10)]
"""Keys of rows that are changed by hand; the load is about others."""

HOLDS_LANES = """
select count(*) from pg_locks
where relation = 'public.{0}'::regclass and mode = 'ShareRowExclusiveLock' and not granted
"""


def states_of(contexts: list[Context]) -> dict[str, Projection]:
    parts = {context.aggregate: ContextStream(context, Stream.of(context)) for context in contexts}
    return {name: projection for name, (_, projection) in StreamCatalog(parts).states().items()}


def calm_rows(deployment: Deployment, projection: Projection) -> list[Any]:
    (key,) = projection.key_columns
    return deployment.installation.fetch(
        f"select * from public.{projection.table.name} where {key} like 'calm-%' order by {key}"
    )


def change_by_hand(deployment: Deployment, projection: Projection) -> int:
    """Change one row, and give another one another key; return how many rows differ then."""
    (key,) = projection.key_columns
    keys = [row[key] for row in calm_rows(deployment, projection)]
    table = f"public.{projection.table.name}"
    statements = [f"update {table} set version = version + 1, updated_at = now() where {key} = '{{0}}'"]
    statements.append(f"update {table} set {key} = 'calm-moved' where {key} = '{{0}}'")
    pairs = list(zip(statements, keys, strict=False))
    deployment.installation.execute(*(statement.format(each) for statement, each in pairs))
    return (0, 1, 3)[len(pairs)]


async def kill_a_rebuild_that_holds_the_lanes(deployment: Deployment, name: str, table: str) -> None:
    """Another program's transaction keeps it from the table once it has the lanes."""
    other = await asyncpg.connect(deployment.installation.database)
    await other.execute(f"begin; lock table public.{table} in row exclusive mode")
    with deployment.installation.calling("projections", "rebuild", name) as call:
        locked = HOLDS_LANES.format(table)
        await eventually(lambda: other.fetchval(locked), what="a rebuild that holds the lanes")
        call.process.kill()
    await other.close()


def test_rows_come_back_under_load_and_after_a_kill(deployment: Deployment, seed: int) -> None:
    deployment = with_all_contexts(deployment)
    contexts = with_parents([context for context in chosen_contexts() if context.states])
    states = states_of(contexts)
    deployment.start("all")
    calm = Senders(deployment, seed, contexts, CALM)
    calm.send()
    calm.await_consumed()
    before = {name: calm_rows(deployment, projection) for name, projection in states.items()}
    differing = {name: change_by_hand(deployment, projection) for name, projection in states.items()}
    assert sum(differing.values()) >= len(contexts)
    load = Senders(deployment, seed + 1, contexts)
    load.send()

    killed = max(differing, key=lambda name: differing[name])
    changed = calm_rows(deployment, states[killed])
    asyncio.run(kill_a_rebuild_that_holds_the_lanes(deployment, killed, states[killed].table.name))
    load.await_consumed()
    assert calm_rows(deployment, states[killed]) == changed

    for name in states:
        with deployment.installation.calling("projections", "rebuild", name, "--json") as call:
            while call.process.poll() is None:
                load.send(20)
            assert call.process.returncode == 0, call.err
            assert json.loads(call.out)["corrected"]["differing"] == differing[name]
    load.await_consumed()
    deployment("audit", "--wait", "300")
    for name, projection in states.items():
        assert calm_rows(deployment, projection) == before[name]
        deployment("projections", "verify", name)
