"""The archive's two messages for an archiver, which reads requests and writes confirmations."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from tidemill.catalog.ports import SchemaRegistry
from tidemill.catalog.schemas import MessageSchema
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent
from tidemill.domain.errors import Unreadable
from tidemill.domain.lane import StreamTopics
from tidemill.domain.rejections import ParkingCode, RejectionCode
from tidemill.runtime.clock import Clock
from tidemill.transport.avro.codec import known_messages
from tidemill.transport.avro.known import KnownSchemas

EVENT: Final = "tidemill.archival.ArchivalEvent"
CONFIRMATION: Final = "tidemill.archival.ArchivalConfirmation"

_SHOWN_FAULTS: Final = 3


class ArchivalCodec:
    """Reads `ArchivalEvent`, writes `ArchivalConfirmation`."""

    def __init__(self, events: KnownSchemas, confirmations: KnownSchemas, prefix: bytes) -> None:
        """Use `open`, which also asks the registry."""
        self._events = events
        self._form = confirmations.forms[CONFIRMATION]
        self._prefix = prefix

    @classmethod
    async def open(
        cls,
        topics: StreamTopics,
        messages: dict[str, MessageSchema],
        *,
        clock: Clock,
        registry: SchemaRegistry | None = None,
    ) -> ArchivalCodec:
        """Return the codec; `topics` are the archive's, `messages` those of `archival`.

        Raises:
            ContractError: a message has no schema, differs from its class, or is not in the registry.
            Unavailable: the registry is unavailable.
        """
        events = known_messages(topics.events, "event", {EVENT: ArchivalEvent}, messages, clock, registry)
        confirmations = known_messages(
            topics.commands, "command", {CONFIRMATION: ArchivalConfirmation}, messages, clock, registry
        )
        await events.preload()
        return cls(events, confirmations, await confirmations.prefix_for_writing(CONFIRMATION))

    async def read(self, value: bytes | None) -> ArchivalEvent:
        """Return the request that a record of the event topic holds.

        Raises:
            Unreadable: it holds none that this version can read.
            Unavailable: the registry is unavailable.
        """
        if not value:
            raise Unreadable(ParkingCode.MALFORMED, "the record has no value")
        await self._events.prepare([value])
        _, fields = self._events.decode(value)
        try:
            return ArchivalEvent.model_validate(fields)
        except ValidationError as fault:
            faults = fault.errors(include_url=False, include_input=False)[:_SHOWN_FAULTS]
            said = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in faults]
            raise Unreadable(RejectionCode.INVALID, "; ".join(said)) from None

    def write(self, confirmation: ArchivalConfirmation) -> bytes:
        """Return the value of a record of the confirmation topic."""
        return self._prefix + self._form.write(confirmation.model_dump())
