"""The writes of a process that serves HTTP: from a deployment to use-cases, and the services that they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from os import urandom

from tidemill.admin.lanes.states import streams_as_created
from tidemill.app.connections import kafka_connection, open_registry
from tidemill.app.deployment import Deployment
from tidemill.app.topic_settings import topic_settings
from tidemill.catalog.ports import SchemaRegistry
from tidemill.catalog.streams import ContextStream, outcome_messages
from tidemill.catalog.topics import reply_topic
from tidemill.domain.collection import Collection
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.service import Service
from tidemill.settings import Settings
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.database.pool import Lender
from tidemill.storage.submissions.documents import DocumentDatabase
from tidemill.storage.submissions.outcomes import OutcomeDatabase
from tidemill.submissions.command_index import CommandIndex
from tidemill.submissions.documents import Documents
from tidemill.submissions.identifiers import new_command_id
from tidemill.submissions.lookup import CommandStatus
from tidemill.submissions.ports import IntentJournal, IntentReader
from tidemill.submissions.sender import Submitter, SubmitterOptions, SubmitterParts
from tidemill.submissions.writes import Writes
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill.transport.avro.submissions import AvroPayloads
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.submissions.producer import KafkaCommandSender
from tidemill.transport.kafka.submissions.replies import KafkaReplyInbox


@dataclass(frozen=True, kw_only=True)
class SubmissionUseCases:
    """What HTTP calls. `services`: to be run beside it, by name; `submitter.drain()` comes before their stop."""

    writes: Writes
    status: CommandStatus
    submitter: Submitter
    services: Mapping[str, Service]


@dataclass(frozen=True, kw_only=True)
class SubmissionParts:
    """What the use-cases are made of. `process`: this process's name. `pool`: of short questions."""

    deployment: Deployment
    collections: Sequence[Collection]
    pool: Lender
    journal: IntentJournal
    intents: IntentReader
    process: str
    options: SubmitterOptions | None = None
    kafka: KafkaConnection | None = None


async def open_submissions(shared: AsyncExitStack, given: SubmissionParts) -> SubmissionUseCases:
    """Open what writes need; `shared` closes it.

    Raises:
        ContractError: a command has no schema, or lanes were not created.
        Unavailable: the database or the registry is.
    """
    settings, clock = given.deployment.settings, SystemClock()
    created = await streams_as_created(given.deployment.catalog.contexts, OperationsDatabase(given.pool))
    parts = {aggregate: part for aggregate, (part, _) in created.items()}
    kafka = given.kafka or kafka_connection(settings, given.process.replace(" ", "-"))
    registry = open_registry(shared, settings)
    sender = KafkaCommandSender(kafka, batch_bytes=topic_settings(settings.topics).command_batch_bytes)
    shared.push_async_callback(sender.close)
    inbox = await _inbox(given, kafka, registry, parts.values())
    log = OutcomeDatabase(given.pool)
    submitter = Submitter(
        SubmitterParts(
            encoder=AvroPayloads(await _codecs(settings, registry, parts.values())),
            sender=sender,
            replies=inbox,
            log=log,
            journal=given.journal,
            clock=clock,
        ),
        given.options or SubmitterOptions(max_command_bytes=settings.topics.max_command_bytes),
    )
    index = CommandIndex({name: part.stream for name, part in parts.items()}, given.collections)
    documents = Documents(index, now=clock.now, new_id=lambda: new_command_id(clock.now(), urandom(10)))
    return SubmissionUseCases(
        writes=Writes(documents=documents, submitter=submitter, reader=DocumentDatabase(given.pool), log=log),
        status=CommandStatus(log=log, intents=given.intents),
        submitter=submitter,
        services={"outcomes": submitter.waits, "replies": inbox},
    )


async def _codecs(
    settings: Settings, registry: SchemaRegistry | None, parts: Iterable[ContextStream]
) -> dict[str, StreamCodec]:
    return {
        part.stream.aggregate: await StreamCodec.open(
            part.stream,
            part.messages(),
            clock=SystemClock(),
            registry=registry,
            max_bytes=settings.topics.max_command_bytes,
        )
        for part in parts
    }


async def _inbox(
    given: SubmissionParts,
    kafka: KafkaConnection,
    registry: SchemaRegistry | None,
    parts: Iterable[ContextStream],
) -> KafkaReplyInbox:
    """Return the inbox of a process; every stream's outcomes have one schema, so one stream's codec reads all."""
    (topics, *_) = [part.stream.topics for part in parts]
    codec = await AvroOutcomeCodec.open(topics, outcome_messages(), clock=SystemClock(), registry=registry)
    topic = reply_topic(given.deployment.settings.topics.prefix)
    return KafkaReplyInbox(kafka, topic, process=given.process, decode=codec.decode)
