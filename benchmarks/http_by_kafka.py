"""The same command without HTTP: how long it takes from its producer to its reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.arena import Arena
from tidemill.app.connections import SharedResources, open_pool
from tidemill.app.deployment import Deployment
from tidemill.app.submissions import SubmissionParts, open_submissions
from tidemill.catalog.collections import collections_of
from tidemill.security.principals import Grant, Principal, PrincipalKind, Verb
from tidemill.settings import Settings
from tidemill.submissions.requests import Caller

CONNECTIONS = 16


async def by_kafka(where: Arena, quote: Callable[[str, int], dict[str, object]], count: int) -> list[float]:
    """Return how long the same command takes from its producer to its reply, without HTTP and journal."""
    deployment = Deployment.of(Settings.model_validate(_settings(where)))
    async with SharedResources() as shared:
        pool = await open_pool(shared, deployment.settings, name="bench", size=4)
        collections = list(collections_of(deployment.catalog).values())
        parts = SubmissionParts(
            deployment=deployment,
            collections=collections,
            pool=pool,
            journal=NoJournal(),
            intents=NoJournal(),
            process="bench",
        )
        opened = await open_submissions(shared, parts)
        running_parts = [asyncio.create_task(service.run()) for service in opened.services.values()]
        caller = Caller(principal=Principal("bench", PrincipalKind.SERVICE, {"*": Grant(frozenset(Verb))}))
        waiting, times = iter(range(count)), []

        async def work() -> None:
            for number in waiting:
                wanted = quote(f"K{number % 10}", number)
                began_s = time.perf_counter()
                result = await opened.writes.command("RecordMarketData", wanted, caller, 30.0)
                assert result.applied, result
                times.append(time.perf_counter() - began_s)

        await opened.writes.command("RecordMarketData", quote("K", 0), caller, 30.0)
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
        for task in running_parts:
            task.cancel()
        await asyncio.wait(running_parts)
    return times


class NoJournal:
    """Keeps nothing."""

    async def intents(self, entries: Sequence[Any]) -> Sequence[object]:
        """Return a place for each."""
        return [None] * len(entries)

    async def outcome(self, reference: object, result: str, *, code: str | None = None) -> None:
        """Forget it."""

    async def is_intended(self, identity: str, principal: str | None) -> bool:
        """Know nothing."""
        return False


def _settings(where: Arena) -> dict[str, Any]:
    return {
        "contexts": "market_data",
        "database": {"url": where.database_url},
        "kafka": {"bootstrap": where.kafka},
        "topics": {"prefix": where.name},
    }
