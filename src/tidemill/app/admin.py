"""The use-cases of operators, over the adapters of one process; each is opened when it is first needed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from functools import cached_property, partial
from typing import Self, TypeVar

from tidemill.admin.archive.access import OpenAccess
from tidemill.admin.archive.actions import ArchiveActions
from tidemill.admin.archive.inspection import ArchiveInspection
from tidemill.admin.archive.restore import ArchiveRestore, OpenCopies
from tidemill.admin.archive.scrub import CopyScrub
from tidemill.admin.audit.journal import JournalAuditor
from tidemill.admin.audit.run import Auditor
from tidemill.admin.command_lookup import CommandLookup
from tidemill.admin.dead_letters import DeadLetters
from tidemill.admin.generations import OutboxForms
from tidemill.admin.lanes.comparison import LaneComparison
from tidemill.admin.lanes.decisions import LaneDecisions
from tidemill.admin.lanes.overview import LaneOverview
from tidemill.admin.principals import PrincipalManagement, PrincipalOverview
from tidemill.admin.read_models import ReadModelOverview, ReadModelRepair
from tidemill.admin.records.publish import CommandPublisher
from tidemill.admin.records.topic_tail import TopicTail
from tidemill.admin.secrets import KeyManagement
from tidemill.admin.setup.migrations import MigrationSetup
from tidemill.admin.setup.schemas import SchemaSetup
from tidemill.admin.setup.topics import TopicSetup
from tidemill.admin.sign_in import PasswordVerifier
from tidemill.admin.status import StatusReader
from tidemill.app.archive_access import TIMEOUTS, open_access, open_copies
from tidemill.app.connections import Login, kafka_connection, open_pool, open_registry
from tidemill.app.deployment import Deployment
from tidemill.app.principals import principal_management
from tidemill.app.startup.migrations import applied_migrations
from tidemill.app.topic_settings import topic_settings
from tidemill.catalog.misfits import MisfitReader
from tidemill.catalog.ports import SchemaRegistry
from tidemill.catalog.streams import ContextStream
from tidemill.catalog.topics import reply_topic
from tidemill.projections.replay import ReplayParts
from tidemill.queries.declared import DeclaredQueries
from tidemill.queries.read_models import ReadModels
from tidemill.runtime.clock import SystemClock
from tidemill.security.by_hand import this_process
from tidemill.security.journal_writer import Journal, JournalLimits
from tidemill.storage.admin.archived_rows import HoldingsDatabase
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.admin.lane_changes import LaneDatabase
from tidemill.storage.admin.outbox_form import OutboxFormDatabase
from tidemill.storage.admin.processes import ProcessDatabase
from tidemill.storage.catalog.structure import StructureDatabase
from tidemill.storage.database.lazy_pool import LazyPool
from tidemill.storage.database.pool import Timeouts
from tidemill.storage.database.table_sql import table_name
from tidemill.storage.migrations.community import EditionDatabase
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.storage.queries.declared import DeclaredQueryDatabase
from tidemill.storage.read_models.pages import ReadModelDatabase
from tidemill.storage.read_models.rebuild import RebuildDatabase
from tidemill.storage.read_models.rows import ViewDatabase
from tidemill.storage.read_models.state_rebuild import StateDatabase, StateRebuildDatabase
from tidemill.storage.security.accounts import AccountDatabase
from tidemill.storage.security.journal import (
    JOURNAL_TIMEOUTS,
    WALK_TIMEOUTS,
    JournalDatabase,
    JournalHistoryDatabase,
)
from tidemill.storage.security.principals import PrincipalDatabase
from tidemill.storage.security.secret_keys import SecretKeyDatabase
from tidemill.transport.avro.events import AvroEventCodec
from tidemill.transport.avro.inspection import AvroCommandEncoders, AvroRecordDecoders
from tidemill.transport.kafka.admin.inspection import Inspector
from tidemill.transport.kafka.admin.lane_topics import KafkaLaneTopics
from tidemill.transport.kafka.admin.producer import KafkaSenders
from tidemill.transport.kafka.admin.reader import KafkaTopicReaders
from tidemill.transport.kafka.catalog.topics import Topics
from tidemill.transport.kafka.outbox.packs import entries_of
from tidemill.transport.kafka.projections.event_source import KafkaEventSource

T = TypeVar("T")


class Admin:
    """The use-cases of a deployment. Use it with `async with`, once for each process: what was opened stays open."""

    def __init__(self, deployment: Deployment) -> None:
        """Nothing is opened. `open_journal`: that of the action which is being done, None for a question."""
        self.open_journal: Journal | None = None
        self._deployment = deployment
        self._catalog = deployment.catalog
        self._settings = deployment.settings
        self._clock = SystemClock()
        self._shared = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close what was opened."""
        await self._shared.aclose()

    # --- use-cases ---------------------------------------------------------------------------------------------------

    @property
    def status(self) -> StatusReader:
        """The progress of every step."""
        return StatusReader(
            catalog=self._catalog,
            lanes=self.operations,
            read_models=self.operations,
            archive=HoldingsDatabase(self._pool),
            misfits=self._misfits,
            processes=ProcessDatabase(self._pool),
            secrets=replace(self.secrets, keys=SecretKeyDatabase(self._pool)),
            topics=self.topics,
            edition=EditionDatabase(self._pool),
            clock=self._clock,
        )

    @property
    def commands(self) -> CommandLookup:
        """The outcome of a command."""
        log = self.operations
        return CommandLookup(self._catalog, log=log, lanes=log, decoders=self._decoders, entries=entries_of)

    @property
    def outbox_forms(self) -> OutboxForms:
        """In which form the outbox is written."""
        return OutboxForms(OutboxFormDatabase(self._pool), ProcessDatabase(self._pool))

    @property
    def lanes(self) -> LaneOverview:
        """Lanes, for reading."""
        return LaneOverview(catalog=self._catalog, lanes=self.operations)

    @property
    def lane_decisions(self) -> LaneDecisions:
        """Lanes, for decisions."""
        topics = KafkaLaneTopics(partial(kafka_connection, self._settings))
        outbox = OutboxDatabase(self._pool)
        return LaneDecisions(
            lanes=self.operations,
            store=LaneDatabase(self._pool),
            comparison=LaneComparison(lanes=self.operations, outbox=outbox, topics=topics),
            topics=self.topics,
            lane_topics=topics,
        )

    @property
    def dead_letters(self) -> DeadLetters:
        """Records that were parked."""
        return DeadLetters(catalog=self._catalog, parked=self.operations, lanes=self.operations)

    @cached_property
    def secrets(self) -> KeyManagement:
        """The keys of secrets."""
        keys = SecretKeyDatabase(self._lazy_pool("tidemill secrets", 1))
        return KeyManagement(catalog=self._catalog, keys=keys, masters=self._settings.secret.master_keys())

    @cached_property
    def principals(self) -> PrincipalManagement:
        """Principals, to be changed with the login that owns tables: no other may."""
        pool = self._lazy_pool("tidemill principals", 1, "migration")
        return principal_management(pool, self._catalog, self._clock, self.open_journal)

    @property
    def principal_overview(self) -> PrincipalOverview:
        """Principals, for reading."""
        return PrincipalOverview(reader=PrincipalDatabase(self._pool), clock=self._clock)

    @cached_property
    def passwords(self) -> PasswordVerifier:
        """Passwords, to be checked; not on a server that may lag behind, which would not know what was withdrawn."""
        pool = self._lazy_pool("tidemill passwords", 1)
        return PasswordVerifier(
            catalog=self._catalog,
            open_rows=partial(AccountDatabase, pool),
            keys=SecretKeyDatabase(pool),
            masters=self._settings.secret.master_keys(),
            clock=self._clock,
        )

    @property
    def read_models(self) -> ReadModelOverview:
        """Read models, for reading."""
        reader = self.operations
        return ReadModelOverview(catalog=self._catalog, lanes=reader, states=reader, table_name=table_name)

    @cached_property
    def read_model_repair(self) -> ReadModelRepair:
        """Read models, to be rebuilt or verified."""
        pool = self._lazy_pool("tidemill projections", 4, "migration")

        async def open_replay(part: ContextStream, of_state: bool) -> ReplayParts:  # noqa: FBT001  as `OpenReplay` has it
            stream, kafka = part.stream, kafka_connection(self._settings)
            return ReplayParts(
                source=lambda: KafkaEventSource(
                    kafka, topic=stream.topics.events, partitions=stream.partitions
                ),
                codec=await AvroEventCodec.open(
                    stream, part.messages(), clock=self._clock, registry=self._registry
                ),
                store=StateDatabase(pool) if of_state else ViewDatabase(pool),
                rebuild_targets=StateRebuildDatabase(pool) if of_state else RebuildDatabase(pool),
            )

        return ReadModelRepair(catalog=self._catalog, lanes=OperationsDatabase(pool), open_replay=open_replay)

    @cached_property
    def queries(self) -> ReadModels:
        """Rows of read models, read with the login that may do nothing else."""
        return ReadModels(self._catalog.readable().values(), ReadModelDatabase(self._reader_pool))

    @cached_property
    def declared_queries(self) -> DeclaredQueries:
        """Queries that contexts declare, asked with the same login."""
        tables = {name: model.table for name, model in self._catalog.readable().items()}
        store = DeclaredQueryDatabase(self._reader_pool)
        return DeclaredQueries(self._catalog.queries(), tables, store)

    @cached_property
    def _reader_pool(self) -> LazyPool:
        return self._lazy_pool("tidemill query", 1, "reader", writes=False)

    @property
    def topic_tail(self) -> TopicTail:
        """Records of topics."""
        readers = KafkaTopicReaders(partial(kafka_connection, self._settings))
        return TopicTail(catalog=self._catalog, readers=readers, decoders=self._decoders)

    @property
    def audit(self) -> Auditor:
        """Whether every step balances."""
        return Auditor(
            catalog=self._catalog,
            reader=self.operations,
            lanes=self.operations,
            read_models=self.operations,
            misfits=self._misfits,
            topics=self.topics,
            table_name=table_name,
            clock=self._clock,
        )

    @cached_property
    def journal_audit(self) -> JournalAuditor:
        """Whether the journal is whole, and what became of what was begun."""
        pool = self._lazy_pool("tidemill audit", 2, timeouts=WALK_TIMEOUTS, writes=False)
        return JournalAuditor(reader=JournalHistoryDatabase(pool))

    def journal(self, name: str) -> Journal:
        """The journal of a verb, of one action each; it may wait longer than a request."""
        pool = self._lazy_pool("tidemill journal", 1, timeouts=JOURNAL_TIMEOUTS)
        limits = JournalLimits(deadline_s=10.0, lazy_s=0.0, fails_at_once=True)
        process = this_process(name, self._clock)
        return Journal(JournalDatabase(pool), process, limits=limits, clock=self._clock)

    @property
    def publisher(self) -> CommandPublisher:
        """Commands, to be published by hand."""
        kafka = partial(kafka_connection, self._settings)
        return CommandPublisher(
            catalog=self._catalog,
            encoders=AvroCommandEncoders(lambda: self._registry, self._clock),
            decoders=self._decoders,
            readers=KafkaTopicReaders(kafka),
            senders=KafkaSenders(kafka, batch_bytes=self._settings.topics.max_command_bytes),
            clock=self._clock,
        )

    @property
    def migrations(self) -> MigrationSetup:
        """The revisions of the database, and the tables that they make."""
        from tidemill.app.revisions import migrations_of  # noqa: PLC0415  loads Alembic, for this question alone

        return MigrationSetup(self._catalog, migrations_of(self._deployment), StructureDatabase(self._pool))

    @cached_property
    def topic_setup(self) -> TopicSetup:
        """The topics with their lanes, to be created with the login that owns tables."""
        return self._topic_setup(self._lazy_pool("tidemill topics", 1, "migration"))

    @cached_property
    def topic_check(self) -> TopicSetup:
        """The topics, to be checked with any login."""
        return self._topic_setup(self._lazy_pool("tidemill topics", 1, writes=False))

    def _topic_setup(self, pool: LazyPool) -> TopicSetup:
        return TopicSetup(
            catalog=self._catalog,
            settings=partial(topic_settings, self._settings.topics),
            partitions=self._settings.topics.partitions,
            migrations=applied_migrations(self._deployment),
            lanes=LaneDatabase(pool),
            topics=lambda: Topics(kafka_connection(self._settings)),
            inspector=self.topics,
            replies=reply_topic(self._settings.topics.prefix),
        )

    @property
    def schemas(self) -> SchemaSetup:
        """The schemas, to be registered."""
        return SchemaSetup(self._catalog, lambda: self._registry)

    @property
    def archive(self) -> ArchiveInspection:
        """What leaves for the archive, and what left."""
        return ArchiveInspection(self._open_access, self._clock)

    @property
    def archive_actions(self) -> ArchiveActions:
        """The archive, for decisions."""
        return ArchiveActions(self._open_access)

    @property
    def restore(self) -> ArchiveRestore:
        """Restoring from the lake."""
        return ArchiveRestore(self._open_access, self._open_copies, self._settings.lake.timeout_s)

    @property
    def scrub(self) -> CopyScrub:
        """The copies in the lake, to be read again."""
        return CopyScrub(self._open_access, self._open_copies, self._settings.lake.timeout_s)

    # --- adapters ----------------------------------------------------------------------------------------------------

    @cached_property
    def _pool(self) -> LazyPool:
        return self._lazy_pool("tidemill operations", 2, writes=False)

    @cached_property
    def operations(self) -> OperationsDatabase:
        """The rows of the database."""
        return OperationsDatabase(self._pool)

    @cached_property
    def _misfits(self) -> MisfitReader:
        return MisfitReader(StructureDatabase(self._pool), applied_migrations(self._deployment))

    @cached_property
    def topics(self) -> Inspector:
        """The ends of the topics of lanes."""
        inspector = Inspector(partial(kafka_connection, self._settings))
        self._shared.push_async_callback(inspector.close)
        return inspector

    @cached_property
    def _open_access(self) -> OpenAccess:
        pool = self._lazy_pool("tidemill operations", 3, "retention", TIMEOUTS, writes=False)
        return partial(open_access, self._deployment, pool.opened, lambda: self._registry)

    @property
    def _open_copies(self) -> OpenCopies:
        return partial(open_copies, self._settings)

    @cached_property
    def _decoders(self) -> AvroRecordDecoders:
        return AvroRecordDecoders(lambda: self._registry, self._clock)

    @cached_property
    def _registry(self) -> SchemaRegistry | None:
        return open_registry(self._shared, self._settings)

    def _lazy_pool(
        self,
        name: str,
        size: int,
        login: Login = "service",
        timeouts: Timeouts | None = None,
        *,
        writes: bool = True,
    ) -> LazyPool:
        """`writes`: a read-only server is refused; for a question it is accepted."""
        opening = partial(open_pool, self._shared, self._settings, name=name, size=size, login=login)
        return LazyPool(partial(opening, timeouts=timeouts, writes=writes))
