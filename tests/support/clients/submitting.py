"""A process that submits, on real servers: the use-cases that HTTP calls, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from tests.fakes.submissions import MemoryIntents
from tests.support.engine.submissions import caller, collections_of
from tests.support.servers.installation import Installation
from tests.support.waiting import eventually
from tidemill.app.connections import kafka_connection
from tidemill.app.deployment import Deployment
from tidemill.app.submissions import SubmissionParts, SubmissionUseCases, open_submissions
from tidemill.domain.collection import Collection
from tidemill.domain.errors import RequestRefused
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.submissions.requests import Caller, DocumentRequest, DocumentVerb, SubmissionResult
from tidemill.submissions.sender import SubmitterOptions


@dataclass
class Submitting:
    """The use-cases, with the collections and the journal that they have."""

    use_cases: SubmissionUseCases
    collections: dict[str, Collection]
    journal: MemoryIntents

    def request(
        self, name: str, verb: DocumentVerb, body: Any = None, key: str | None = None, **more: Any
    ) -> DocumentRequest:
        return DocumentRequest(collection=self.collections[name], verb=verb, body=body, key=key, **more)

    async def write(
        self,
        name: str,
        verb: DocumentVerb,
        body: Any = None,
        key: str | None = None,
        *,
        who: Caller | None = None,
        wait_s: float = 30.0,
        **more: Any,
    ) -> SubmissionResult:
        request = self.request(name, verb, body, key, **more)
        return await self.use_cases.writes.write(request, who or caller(), wait_s)

    async def until_known(self, request: DocumentRequest, who: Caller) -> SubmissionResult:
        """Do what a client does that obeys only `retry`: send again with the same key, then ask by the id."""

        async def known() -> SubmissionResult | None:
            try:
                result = await self.use_cases.writes.write(request, who, 5.0)
            except RequestRefused as refusal:
                if refusal.request_code.retry != "same-key":
                    raise
                return None
            if result.outcome is None:
                result = await self.use_cases.status.outcome_of(result.command_id, who.principal)
            return result if result.outcome is not None else None

        found = await eventually(known, what=f"the outcome of {who.idempotency_key}")
        assert found is not None
        return found


@asynccontextmanager
async def submitting(
    installation: Installation,
    *,
    options: SubmitterOptions | None = None,
    with_replies: bool = True,
    **connection: Any,
) -> AsyncIterator[Submitting]:
    """Open the use-cases, and run their services until the block ends. `connection`: other settings of Kafka's."""
    deployment = Deployment.of(installation.settings())
    collections = collections_of(*(part.context for part in deployment.catalog.contexts.values()))
    journal = MemoryIntents()
    async with AsyncExitStack() as opened:
        pool = await create_pool(installation.database, application_name="tidemill-tests", size=4)
        opened.push_async_callback(close_pool, pool)
        parts = SubmissionParts(
            deployment=deployment,
            collections=list(collections.values()),
            pool=pool,
            journal=journal,
            intents=journal,
            process="tidemill http tests",
            options=options,
            kafka=replace(kafka_connection(deployment.settings), **connection),
        )
        use_cases = await open_submissions(opened, parts)
        wanted = {"outcomes", "replies"} if with_replies else {"outcomes"}
        services = [use_cases.services[name] for name in sorted(wanted)]
        running = [asyncio.create_task(service.run()) for service in services]
        inbox: Any = use_cases.services["replies"]
        if with_replies:
            await eventually(lambda: inbox.address is not None, what="an address for replies")
        try:
            yield Submitting(use_cases, collections, journal)
        finally:
            for service in services:
                await service.stop()
            await asyncio.gather(*running)
