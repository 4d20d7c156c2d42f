"""Publishing by hand: commands are sent in order with the right key, and their outcomes come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Final, Protocol

from tidemill.admin.records.command_lines import Line, LineReader
from tidemill.admin.records.outgoing import Outgoing, RecordPlace
from tidemill.admin.records.ports import (
    CommandEncoders,
    RecordDecoder,
    RecordDecoders,
    RecordReader,
    RecordSenders,
    TopicReaders,
)
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import UsageError
from tidemill.domain.lane import TopicRole
from tidemill.domain.messages import CommandBase
from tidemill.runtime.clock import Clock

_CHUNK: Final = 1_000


@dataclass(frozen=True)
class Answer:
    """The outcome of a record that was published; fields as in the outcome message.

    `original`: of a duplicate, the outcome of the first one.
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
    """What was sent and, if waited for, its outcomes."""

    topic: str
    answers: list[Answer] = field(default_factory=list)

    def add(self, lines: Sequence[Line], places: Sequence[RecordPlace]) -> None:
        """Record where the records of these lines are."""
        self.answers += [
            Answer(line.number, line.command.command_id, place.partition, place.offset)
            for line, place in zip(lines, places, strict=True)
        ]

    @property
    def counts(self) -> Counter[str]:
        """Return how many records had which outcome."""
        return Counter(answer.outcome or "no outcome yet" for answer in self.answers)


class ProgressListener(Protocol):
    """Gets the progress of a publication."""

    def sending(self, records: int, outcomes: int) -> None:
        """The number of records sent and of outcomes received, including those of other publishers."""

    def waiting(self, records: int, outcomes: int) -> None:
        """All are sent; this many outcomes were received."""


def find_command(catalog: StreamCatalog, name: str) -> tuple[ContextStream, type[CommandBase]]:
    """Return a command's class by its name, short or full. Raises `UsageError`."""
    every = {
        full: (part, spec.model)
        for part in catalog.contexts.values()
        for full, spec in part.stream.commands.items()
        if issubclass(spec.model, CommandBase)
    }
    found = [each for full, each in every.items() if name in {full, full.rpartition(".")[2]}]
    if len(found) != 1:
        choices = tuple(full if found else full.rpartition(".")[2] for full in every)
        problem = "names several commands" if found else "names no command"
        raise UsageError(f"{name!r} {problem}", code=ErrorCode.UNKNOWN_NAME, name=name, choices=choices)
    return found[0]


@dataclass(frozen=True)
class PublishRequest:
    """What to publish. `command`: its name, short or full. `read`: gives the commands, in order.

    `key`: instead of each command's own. `service`: of lines that name none. `wait_s`: how long to wait for the
    outcome of the last one; None: not at all.
    """

    command: str
    read: Callable[[LineReader], Iterator[Line]]
    service: str
    key: str | None = None
    wait_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class CommandPublisher:
    """Publishes commands of a deployment's contexts."""

    catalog: StreamCatalog
    encoders: CommandEncoders
    decoders: RecordDecoders
    readers: TopicReaders
    senders: RecordSenders
    clock: Clock

    async def publish(self, request: PublishRequest, listener: ProgressListener) -> Publication:
        """Send commands and, if requested, wait for their outcomes. `listener`: gets the progress.

        Raises:
            UsageError: a line is not a command, or a record is too large.
            Unavailable: Kafka or the registry is; what was sent stays, and may be sent again.
        """
        part, model = find_command(self.catalog, request.command)
        topic = part.stream.topics.commands
        publication = Publication(topic)
        async with AsyncExitStack() as opened:
            encoder = await self.encoders.encoder(part)
            waiting = None if request.wait_s is None else await self._follow_outcomes(opened, part)
            sender = self.senders.sender(topic)
            opened.push_async_callback(sender.close)
            await sender.open()
            lines = LineReader(
                model, service=request.service, now=self.clock.now, own_id=_own_id(part, model)
            )
            for chunk in _chunks(request.read(lines)):
                records = [
                    Outgoing(_key(part, line, request.key), await encoder.encode_command(line.command))
                    for line in chunk
                ]
                publication.add(chunk, await sender.send(records))
                listener.sending(len(publication.answers), waiting.answered if waiting else 0)
            if waiting is not None and request.wait_s is not None:
                publication.answers = await waiting.until_all(publication.answers, request.wait_s, listener)
        return publication

    async def _follow_outcomes(self, opened: AsyncExitStack, part: ContextStream) -> OutcomeWait:
        decoder = await self.decoders.decoder(part, TopicRole.OUTCOMES)
        reader = self.readers.reader(part.stream.topics.outcomes)
        opened.push_async_callback(reader.close)
        await reader.open(last=0)
        waiting = OutcomeWait(reader, decoder)
        opened.push_async_callback(waiting.close)
        return waiting


def _own_id(part: ContextStream, model: type[CommandBase]) -> Callable[[CommandBase], str | None]:
    (own,) = [(name, spec) for name, spec in part.stream.commands.items() if spec.model is model]
    return partial(own[1].own_id, own[0])


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


class OutcomeWait:
    """Follows an outcome topic from before the first record is sent."""

    def __init__(self, reader: RecordReader, decoder: RecordDecoder) -> None:
        """`reader` is open; it is followed from now on."""
        self._decoder = decoder
        self._found: dict[tuple[RecordPlace, str | None], Mapping[str, Any]] = {}
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._follow(reader))

    @property
    def answered(self) -> int:
        """Return the number of outcomes received, including those of other publishers."""
        return len(self._found)

    async def until_all(
        self, answers: Sequence[Answer], wait_s: float, listener: ProgressListener
    ) -> list[Answer]:
        """Return the answers with their outcomes; those that did not come within `wait_s` have none."""
        deadline_s = monotonic() + wait_s
        listener.waiting(len(answers), self._come(answers))
        while self._come(answers) < len(answers) and (left_s := deadline_s - monotonic()) > 0:
            if self._task.done():
                self._task.result()
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), min(left_s, 1.0))
            listener.waiting(len(answers), self._come(answers))
        return [_with_outcome(answer, self._of(answer)) for answer in answers]

    def _come(self, answers: Sequence[Answer]) -> int:
        return sum(self._of(answer) is not None for answer in answers)

    def _of(self, answer: Answer) -> Mapping[str, Any] | None:
        """Return the outcome at a record's place and of its command; a record that could not be read has no command.

        The place alone is ambiguous: what a service of 0.1.0 decides itself is at the place of the lane's next record,
        and a topic that was created again has each place a second time.
        """
        place = RecordPlace(answer.partition, answer.offset)
        return self._found.get((place, answer.command_id)) or self._found.get((place, None))

    async def close(self) -> None:
        """Stop following."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _follow(self, reader: RecordReader) -> None:
        try:
            async for record in reader.records(follow=True):
                _, fields = await self._decoder.fields_of(record.value or b"")
                place = RecordPlace(fields["partition"], fields["record_offset"])
                self._found[place, fields["command_id"]] = fields
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
