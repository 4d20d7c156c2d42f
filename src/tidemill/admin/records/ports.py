"""The ports of sending and reading records by hand. Every call may raise `Unavailable`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from tidemill.admin.records.outgoing import Outgoing, RecordPlace
from tidemill.catalog.streams import ContextStream
from tidemill.domain.lane import TopicRole
from tidemill.domain.messages import CommandBase


class TopicRecord(Protocol):
    """A record of a topic, by Kafka's own names. `timestamp`: in milliseconds since 1970."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class RecordReader(Protocol):
    """Reads committed records of a topic, in order within each partition."""

    async def open(self, *, last: int | None = None) -> None:
        """Fix where to begin: at the start, or at the `last` records of each partition (0: only new ones).

        Raises `UsageError` for a topic or a partition that does not exist.
        """
        ...

    def records(self, *, follow: bool = False) -> AsyncIterator[TopicRecord]:
        """Yield the records that existed when it was opened and, if `follow`, new ones, without end.

        Raises `UsageError` at a batch that cannot be unpacked.
        """
        ...

    async def close(self) -> None:
        """End within a deadline."""
        ...


class TopicReaders(Protocol):
    """Makes readers of topics."""

    def reader(self, topic: str, *, partition: int | None = None) -> RecordReader:
        """Return a reader, not open: of all partitions, or of one. Raises `UsageError`: Kafka's address is not set."""
        ...


class RecordSender(Protocol):
    """Sends records to one topic, each acknowledged with its place. After any exception it cannot be used again."""

    async def open(self) -> None:
        """Connect. Raises `Unavailable`, also if the topic does not exist."""
        ...

    async def send(self, records: Sequence[Outgoing]) -> list[RecordPlace]:
        """Send records in order and return the place of each when all are acknowledged.

        Raises `Unavailable` (some of them may have arrived), `UsageError` for a record that is too large.
        """
        ...

    async def close(self) -> None:
        """End within a deadline; nothing is delivered afterwards."""
        ...


class RecordSenders(Protocol):
    """Makes senders."""

    def sender(self, topic: str) -> RecordSender:
        """Return a sender, not open. Raises `UsageError`: Kafka's address is not set."""
        ...


class RecordDecoder(Protocol):
    """Reads the values of one topic."""

    async def fields_of(self, value: bytes) -> tuple[str, Mapping[str, Any]]:
        """Return the message's name and its fields. Raises `Unreadable`."""
        ...


class RecordDecoders(Protocol):
    """Makes decoders for the topics of streams."""

    async def decoder(self, part: ContextStream, role: TopicRole) -> RecordDecoder:
        """Return the decoder of a topic. Raises `ContractError`: a class has no schema, or differs from it."""
        ...


class CommandEncoder(Protocol):
    """Writes the commands of one stream."""

    async def encode_command(self, command: CommandBase) -> bytes:
        """Return the framed value of a command.

        Raises:
            UsageError: a time has no time zone.
            ContractError: the registry does not have the schema.
        """
        ...


class CommandEncoders(Protocol):
    """Makes encoders of streams."""

    async def encoder(self, part: ContextStream) -> CommandEncoder:
        """Return the encoder of a stream. Raises `ContractError`."""
        ...
