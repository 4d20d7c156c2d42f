"""The HTTP API of a process: from a deployment to a gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from os import urandom

from tidemill import __version__
from tidemill.admin.service.collection_schema import ColumnUse, SchemaReader
from tidemill.admin.service.health import HealthReader
from tidemill.admin.service.migrations import MigrationOverview
from tidemill.admin.service.performance import ConnectionOverview, PerformanceReader, PoolWatch
from tidemill.admin.service.plan_samples import PlanSampler, PlanSamples
from tidemill.admin.service.query_records import QueryRecorder
from tidemill.admin.service.statistics import StatisticsReader
from tidemill.app.connections import SharedResources, database_tls, open_pool
from tidemill.app.deployment import Deployment
from tidemill.app.principals import open_authenticator
from tidemill.app.revisions import migrations_of
from tidemill.app.submissions import SubmissionParts, SubmissionUseCases, open_submissions
from tidemill.catalog.collections import collections_of
from tidemill.domain.collection import Collection
from tidemill.http.application import ApiRoutes, api
from tidemill.http.gateway import Gateway, observe_metrics
from tidemill.http.limits import limits_of
from tidemill.http.peers import accepts_peer
from tidemill.http.refusal_notes import RefusalNotes
from tidemill.http.routes.queries import QueryRoutes
from tidemill.http.routes.reads import ReadRoutes
from tidemill.http.routes.service import ServiceRoutes
from tidemill.http.routes.writes import WriteRoutes
from tidemill.queries.archived import ArchivedSpans
from tidemill.queries.collections import Collections
from tidemill.queries.complete_reads import CompleteReads
from tidemill.queries.cursors import Cursors
from tidemill.queries.declared import DeclaredQueries
from tidemill.queries.encodings import encoding_of
from tidemill.queries.reader import CollectionReader
from tidemill.queries.seen_waiter import SeenWaiter
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.service import Service
from tidemill.security.bind_policy import BindPolicy
from tidemill.security.by_hand import this_process
from tidemill.security.journal_writer import Journal
from tidemill.security.rate_limits import UnitLimiter
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.admin.service import ServiceDatabase
from tidemill.storage.database.table_sql import column_type
from tidemill.storage.database.work_pool import PoolServer, WorkPool, WorkPools
from tidemill.storage.queries.archived import ArchivedSpanDatabase
from tidemill.storage.queries.declared import DeclaredQueryDatabase
from tidemill.storage.queries.rows import CollectionDatabase
from tidemill.storage.queries.seen import SeenDatabase
from tidemill.storage.security.journal import JOURNAL_TIMEOUTS, JournalDatabase
from tidemill.storage.security.principals import PrincipalDatabase
from tidemill.storage.submissions.intents import IntentDatabase
from tidemill.submissions.journal import JournalledIntents
from tidemill.submissions.sender import SubmitterOptions

_DRAIN_S = 4.0
"""How long what waits has after a stop: with a last look at the log, and the answers, less than services have."""


@dataclass(frozen=True)
class OpenedApi:
    """What a process serves. `services`: run beside it, by name. `drain`: ends what waits."""

    gateway: Gateway
    services: Mapping[str, Service]
    drain: Callable[[], Awaitable[None]]


async def open_api(
    shared: SharedResources, deployment: Deployment, process: str, policy: BindPolicy
) -> OpenedApi:
    """Open what the API needs; `shared` closes it. Raises `Unavailable`, `ContractError`, `UsageError`."""
    parts = _Parts(
        deployment, await _open_pools(shared, deployment, process), collections_of(deployment.catalog)
    )
    journal = await _open_journal(shared, deployment, process, parts.clock)
    submissions = await open_submissions(
        shared,
        SubmissionParts(
            deployment=deployment,
            collections=list(parts.named.values()),
            pool=parts.pools["write"],
            journal=JournalledIntents(journal),
            intents=IntentDatabase(parts.pools["write"]),
            process=process,
            options=_options(deployment),
        ),
    )
    settings, write = deployment.settings, parts.pools["write"]
    authenticator = open_authenticator(
        PrincipalDatabase(write), settings.jwt, parts.clock, development=policy.allows_development
    )
    shared.push_async_callback(authenticator.close)
    await authenticator.warn_of_development()
    health = HealthReader(ServiceDatabase(write), parts.pools, parts.clock, missing=shared.missing)
    shared.push_async_callback(health.close)
    queries = parts.queries()
    await queries.queries.check()
    routes = ApiRoutes(
        reads=parts.reads(),
        writes=parts.writes(submissions),
        queries=queries,
        service=parts.service(health),
        ready=lambda: (journal.ok, {}),
    )
    gateway = Gateway(
        api(routes, __version__),
        authenticator,
        accepts=partial(accepts_peer, policy),
        note=RefusalNotes(journal, parts.clock).note,
        observe=observe_metrics,
        limiter=UnitLimiter(parts.clock, per_s=settings.http.units_per_s),
    )

    async def drain() -> None:
        parts.waiter.end_within(_DRAIN_S)
        await submissions.submitter.drain()

    return OpenedApi(gateway, {**submissions.services, **parts.watches()}, drain)


class _Parts:
    """What the routes are made of."""

    def __init__(self, deployment: Deployment, pools: WorkPools, named: Mapping[str, Collection]) -> None:
        settings = deployment.settings.http
        self.deployment = deployment
        self.pools = pools
        self.named = named
        self.clock = SystemClock()
        self.collections = Collections(named.values(), column_type)
        projections = deployment.catalog.projections().items()
        self.waiter = SeenWaiter(
            SeenDatabase(pools["write"]),
            {name: part.stream.aggregate for name, (part, _) in projections},
            self.clock,
        )
        self._archived = ArchivedSpans(ArchivedSpanDatabase(pools["read"]), self.clock)
        self._plans = PlanSamples(every=settings.plan_every)
        self.recorder = QueryRecorder(self.clock, plans=self._plans, slow_ms=settings.slow_query_ms)
        key = settings.cursor_key
        self._cursor_key = urandom(32) if key is None else key.get_secret_value().encode()
        store = CollectionDatabase(pools["read"], pools["count"], page_pool=pools["page"])
        self.reader = CollectionReader(store, key=self._cursor_key)

    def watches(self) -> dict[str, Service]:
        """Return what looks at the pools and at the plans of queries."""
        return {
            "pools": PoolWatch(self.pools),
            "plans": PlanSampler(self._plans, ServiceDatabase(self.pools["count"])),
        }

    def reads(self) -> ReadRoutes:
        """Return the operations that read."""
        return ReadRoutes(
            collections=self.collections,
            reads=CompleteReads(self.reader, self._archived),
            waiter=self.waiter,
            recorder=self.recorder,
            timeout_s=self.deployment.settings.http.timeout_s,
        )

    def queries(self) -> QueryRoutes:
        """Return the operations for declared queries, whose pool leaves nothing of what their SQL may set."""
        catalog = self.deployment.catalog
        tables = {name: collection.table for name, collection in self.named.items()}
        store = DeclaredQueryDatabase(self.pools["count"])
        return QueryRoutes(
            collections=self.collections,
            queries=DeclaredQueries(catalog.queries(), tables, store, Cursors(self._cursor_key)),
            waiter=self.waiter,
            archived=self._archived,
            recorder=self.recorder,
            timeout_s=self.deployment.settings.http.timeout_s,
        )

    def writes(self, submissions: SubmissionUseCases) -> WriteRoutes:
        """Return the operations that write."""
        return WriteRoutes(
            collections=self.collections,
            writes=submissions.writes,
            status=submissions.status,
            reader=self.reader,
            recorder=self.recorder,
            advice=self.deployment.catalog.codes(),
            demand_key=self.deployment.settings.http.demand_idempotency_key,
            demand_match=self.deployment.settings.http.demand_if_match,
        )

    def service(self, health: HealthReader) -> ServiceRoutes:
        """Return the operations about the service itself."""
        settings = self.deployment.settings.http
        catalog, database = self.deployment.catalog, ServiceDatabase(self.pools["count"])
        states = OperationsDatabase(self.pools["count"])
        history = migrations_of(self.deployment, owner="http", service="http")
        return ServiceRoutes(
            schemas=SchemaReader(
                collections=self.named,
                tables=database,
                describe=self._use,
                retention=catalog.policies,
                limits=limits_of(
                    query_s=settings.timeout_s,
                    units_per_s=settings.units_per_s,
                    max_waiting=settings.max_waiting,
                ),
            ),
            migrations=MigrationOverview(history, self.clock),
            statistics=StatisticsReader(
                collections=self.named,
                catalog=catalog,
                tables=database,
                lanes=states,
                read_models=states,
                clock=self.clock,
            ),
            health=health,
            performance=PerformanceReader(records=self.recorder, pools=self.pools, clock=self.clock),
            connections=ConnectionOverview(pools=self.pools, clock=self.clock),
        )

    def _use(self, collection: Collection, name: str) -> ColumnUse:
        column = self.collections.visible(collection.name).columns[name]
        return ColumnUse(encoding_of(column), sorted(column.type.operators), column.type.sortable)


def _options(deployment: Deployment) -> SubmitterOptions:
    settings = deployment.settings
    return SubmitterOptions(
        max_waiting=settings.http.max_waiting,
        drain_s=_DRAIN_S,
        max_command_bytes=settings.topics.max_command_bytes,
    )


async def _open_pools(shared: SharedResources, deployment: Deployment, process: str) -> WorkPools:
    settings = deployment.settings
    server = PoolServer(
        url=settings.database.dsn("http"),
        label=process,
        tls=database_tls(settings.database),
        cutoff=shared.cutoff,
    )
    configs = settings.http.pools()
    pools = WorkPools({config.name: WorkPool(server, config) for config in configs})
    await pools.open()
    shared.push_async_callback(pools.close)
    shared.names |= {server.application_name(config.name) for config in configs}
    return pools


async def _open_journal(
    shared: SharedResources, deployment: Deployment, process: str, clock: SystemClock
) -> Journal:
    pool = await open_pool(
        shared,
        deployment.settings,
        name=f"{process} journal",
        size=1,
        login="http",
        timeouts=JOURNAL_TIMEOUTS,
    )
    return await shared.enter_async_context(
        Journal(JournalDatabase(pool), this_process("http", clock), clock=clock)
    )
