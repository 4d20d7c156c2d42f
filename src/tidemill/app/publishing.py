"""Publishing by hand: lines of JSON become commands, sent with the right key, and their outcomes come back.

A line's command_id, if it has none, is made from the line itself: the same file sent again repeats the same commands,
and each of them is applied once.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any, Final, Protocol
from uuid import UUID, uuid5

from pydantic import ValidationError

from tidemill.app.connections import kafka_connection, open_registry
from tidemill.app.deployment import Deployment
from tidemill.catalog.streams import ContextStream, outcome_messages
from tidemill.domain.errors import UsageError
from tidemill.domain.messages import BASE_FIELDS, CommandBase
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill.transport.kafka.admin.producer import KeyedProducer, Outgoing, Place
from tidemill.transport.kafka.admin.reader import TopicReader
from tidemill.transport.kafka.client.client import KafkaConnection

LINES: Final = UUID("a9d0f2c8-66b1-5d36-9f3a-3a52d9c0c1f4")
"""Namespace of command ids that are made from lines."""

SERVICE_NAME: Final = "tidemill-publish"
_CHUNK: Final = 1_000
_MOST_MISTAKES: Final = 10


# --- lines -> commands -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A command that was read from a line; `number` counts from 1."""

    number: int
    command: CommandBase


class LineReader:
    """Makes commands of one kind from lines of JSON."""

    def __init__(self, model: type[CommandBase], *, service: str, now: Callable[[], datetime]) -> None:
        """`service`, `now`: what a line that does not say gets."""
        self._model = model
        self._service = service
        self._now = now
        self._seen: Counter[str] = Counter()

    def fresh(self) -> LineReader:
        """Return a reader that has not seen any line."""
        return LineReader(self._model, service=self._service, now=self._now)

    def read(self, lines: Iterable[str], name: str) -> Iterator[Line]:
        """Return the command of each line that is not blank; `name` is the file's, for messages.

        Raises:
            UsageError: lines are no commands; one message each for the first ten.
        """
        mistakes: list[str] = []
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                command = self._command(text)
            except (ValueError, ValidationError) as error:
                mistakes += [f"{name}:{number}: {mistake}" for mistake in _mistakes(error)]
                if len(mistakes) >= _MOST_MISTAKES:
                    break
                continue
            if not mistakes:
                yield Line(number, command)
        if mistakes:
            raise UsageError(
                "\n".join([*mistakes[:_MOST_MISTAKES], "nothing that follows was sent: correct the lines"])
            )

    def _command(self, text: str) -> CommandBase:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("expected an object, {...}")  # noqa: TRY004  it is the line's value that is wrong
        filled = {
            "command_id": self._id(fields),
            "service_name": self._service,
            "timestamp": self._now().isoformat(),
        }
        return self._model.model_validate_json(json.dumps(filled | fields))

    def _id(self, fields: Mapping[str, Any]) -> str:
        """Name a line by its content, and by how many equal ones stand before it."""
        content = {name: value for name, value in fields.items() if name not in BASE_FIELDS}
        text = f"{self._model.__name__} {json.dumps(content, sort_keys=True)}"
        self._seen[text] += 1
        return str(uuid5(LINES, f"{text} {self._seen[text]}"))


def _mistakes(error: ValueError | ValidationError) -> Iterator[str]:
    if isinstance(error, json.JSONDecodeError):
        yield f"no JSON: {error.msg} at column {error.colno}"
    elif isinstance(error, ValidationError):
        for mistake in error.errors(include_url=False):
            where = ".".join(str(part) for part in mistake["loc"])
            said = mistake["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
            yield f"{where}: {said}" if where else said
    else:
        yield str(error)


# --- commands -> Kafka -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What became of a record that was published; fields as in the outcome message.

    `original`: of a duplicate, what became of the first one.
    """

    line: int
    command_id: str
    partition: int
    offset: int
    outcome: str | None = None
    original: str | None = None
    code: str | None = None
    message: str | None = None
    sequence: int | None = None

    @property
    def refused(self) -> bool:
        """Return whether the command, or the first one with its id, was not applied."""
        return (self.original or self.outcome) in {"rejected", "parked"}


@dataclass
class Publication:
    """What was sent and, if it was waited for, what became of it."""

    topic: str
    answers: list[Answer] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """Return how many records had which outcome."""
        return Counter(answer.outcome or "no outcome yet" for answer in self.answers)


class Onlooker(Protocol):
    """Who wants to see how far it is."""

    def sending(self, records: int, outcomes: int) -> None:
        """So many records are sent; so many outcomes have come, those of other publishers among them."""

    def waiting(self, records: int, outcomes: int) -> None:
        """All are sent; the outcomes of so many have come."""


def find_command(deployment: Deployment, name: str) -> tuple[ContextStream, type[CommandBase]]:
    """Return a command's class by its name, short or full. Raises `UsageError`."""
    every = {
        full: (part, spec.model)
        for part in deployment.catalog.contexts.values()
        for full, spec in part.stream.commands.items()
        if issubclass(spec.model, CommandBase)
    }
    found = [each for full, each in every.items() if name in {full, full.rpartition(".")[2]}]
    if len(found) != 1:
        choices = ", ".join(full if found else full.rpartition(".")[2] for full in every)
        problem = "names several commands" if found else "names no command"
        raise UsageError(f"{name!r} {problem}: choose one of {choices}")
    return found[0]


async def publish(
    deployment: Deployment,
    command: str,
    read: Callable[[LineReader], Iterator[Line]],
    *,
    key: str | None,
    service: str,
    wait_s: float | None,
    onlooker: Onlooker,
) -> Publication:
    """Send the commands that `read` gives, in order; `wait_s`: wait so long for what became of the last of them.

    `key`: instead of each command's own. `onlooker`: is told how far it is.

    Raises:
        UsageError: a line is no command, or a record is too large.
        Unavailable: Kafka or the registry is away; what was sent stays, and may be sent again.
    """
    part, model = find_command(deployment, command)
    clock, kafka = SystemClock(), kafka_connection(deployment.settings)
    async with AsyncExitStack() as shared:
        registry = open_registry(shared, deployment.settings)
        codec = await StreamCodec.open(part.stream, part.messages(), clock=clock, registry=registry)
        waiting = None
        if wait_s is not None:
            outcomes = await AvroOutcomeCodec.open(
                part.stream.topics, outcome_messages(), clock=clock, registry=registry
            )
            waiting = await _Waiting.open(shared, kafka, part.stream.topics.outcomes, outcomes)
        size = deployment.settings.topics.max_command_bytes
        producer = KeyedProducer(kafka, part.stream.topics.commands, batch_bytes=size)
        await shared.enter_async_context(producer)
        await producer.open()
        publication = Publication(part.stream.topics.commands)
        lines = read(LineReader(model, service=service, now=clock.now))
        for chunk in _chunks(lines):
            records = [
                Outgoing(_key(part, line, key), await codec.encode_command(line.command)) for line in chunk
            ]
            places = await producer.send(records)
            publication.answers += [
                Answer(line.number, line.command.command_id, place.partition, place.offset)
                for line, place in zip(chunk, places, strict=True)
            ]
            onlooker.sending(len(publication.answers), waiting.answered if waiting else 0)
        if waiting is not None and wait_s is not None:
            publication.answers = await waiting.until_all(publication.answers, wait_s, onlooker)
    return publication


def _key(part: ContextStream, line: Line, key: str | None) -> bytes:
    return (part.stream.key(line.command) if key is None else key).encode()


def _chunks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    chunk: list[Line] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class _Waiting:
    """Follows an outcome topic from before the first record is sent."""

    def __init__(self, reader: TopicReader, outcomes: AvroOutcomeCodec) -> None:
        """Use `open`."""
        self._outcomes = outcomes
        self._found: dict[tuple[Place, str | None], Mapping[str, Any]] = {}
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._follow(reader))

    @classmethod
    async def open(
        cls, shared: AsyncExitStack, kafka: KafkaConnection, topic: str, outcomes: AvroOutcomeCodec
    ) -> _Waiting:
        reader = TopicReader(kafka, topic)
        await shared.enter_async_context(reader)
        await reader.open(last=0)
        waiting = cls(reader, outcomes)
        shared.push_async_callback(waiting.close)
        return waiting

    @property
    def answered(self) -> int:
        """Return how many outcomes have come, those of other publishers among them."""
        return len(self._found)

    async def until_all(self, answers: Sequence[Answer], wait_s: float, onlooker: Onlooker) -> list[Answer]:
        """Return the answers with their outcomes; those that did not come within `wait_s` stay without."""
        deadline_s = monotonic() + wait_s
        onlooker.waiting(len(answers), self._come(answers))
        while self._come(answers) < len(answers) and (left_s := deadline_s - monotonic()) > 0:
            if self._task.done():
                self._task.result()
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), min(left_s, 1.0))
            onlooker.waiting(len(answers), self._come(answers))
        return [_with_outcome(answer, self._of(answer)) for answer in answers]

    def _come(self, answers: Sequence[Answer]) -> int:
        return sum(self._of(answer) is not None for answer in answers)

    def _of(self, answer: Answer) -> Mapping[str, Any] | None:
        """Return the outcome of a record: at its place, and of its command; one that could not be read names none.

        The place alone does not tell: what a service of 0.1.0 decides itself is at the place of the lane's next record,
        and a topic that was made anew has each place a second time.
        """
        place = Place(answer.partition, answer.offset)
        return self._found.get((place, answer.command_id)) or self._found.get((place, None))

    async def close(self) -> None:
        """Stop following."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _follow(self, reader: TopicReader) -> None:
        try:
            async for record in reader.records(follow=True):
                fields = self._outcomes.decode(record.value)
                self._found[Place(fields["partition"], fields["record_offset"]), fields["command_id"]] = (
                    fields
                )
                self._news.set()
        finally:
            self._news.set()


def _with_outcome(answer: Answer, fields: Mapping[str, Any] | None) -> Answer:
    if fields is None:
        return answer
    return Answer(
        line=answer.line,
        command_id=answer.command_id,
        partition=answer.partition,
        offset=answer.offset,
        outcome=str(fields["outcome"]),
        original=fields["original"],
        code=fields["code"],
        message=fields["error_message"],
        sequence=fields["sequence"],
    )
