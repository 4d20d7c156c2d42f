"""Which schema wrote a value: the schemas folder's fingerprints, the registry's ids, and the refused ones.

A registry's id is accepted only if it is registered under the subject of this topic, names a message of the topic, is
not dangerous to read, and can always be read by the current version. A schema under the subject that is not
dangerous, but unknown to this version or unreadable by it, belongs to a newer one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tidemill.catalog.compatibility import obstacles
from tidemill.catalog.lint import dangers
from tidemill.catalog.ports import Registered, SchemaRegistry
from tidemill.catalog.registration import subject_of
from tidemill.catalog.schemas import MessageSchema, Schema, find_clashes
from tidemill.domain.errors import ContractError, Unreadable
from tidemill.domain.rejections import ParkingCode
from tidemill.runtime.clock import Clock
from tidemill.transport.avro import wire
from tidemill.transport.avro.lookups import Lookups
from tidemill.transport.avro.reader.forms import Form, Reader, Resolution
from tidemill.transport.avro.reader.newer import NewerReader
from tidemill.transport.avro.reader.strict import FAULTS, explain

_REQUESTS_AT_ONCE: Final = 8


class KnownSchemas:
    """Prefix of a value -> reader, for the messages of one topic."""

    def __init__(
        self,
        topic: str,
        messages: Mapping[str, MessageSchema],
        clock: Clock,
        *,
        registry: SchemaRegistry | None = None,
        whole: bool = False,
    ) -> None:
        """Load every version in the folder, by its fingerprint.

        `whole`: a newer version's message is read completely or refused (`newer.NotWhole`). Otherwise unknown fields
        are dropped, as readers of events may, and what cannot be read is refused.

        Raises:
            ContractError: two versions share a fingerprint, or one cannot be read safely.
        """
        self._topic = topic
        self._registry = registry
        self._messages = messages
        self._whole = whole
        self._lookups = Lookups(clock)
        self.forms = {
            name: Form(message.current, base=len(message.base)) for name, message in messages.items()
        }
        self.readers: dict[bytes, Reader] = {}
        versions = [schema for message in messages.values() for schema in message.versions]
        for one, _ in find_clashes(versions):
            raise ContractError(
                f"two versions of {one.name} share a fingerprint; see `tidemill schemas check`"
            )
        for schema in versions:
            self._know(wire.prefix_of_fingerprint(schema.fingerprint), schema)

    async def preload(self) -> None:
        """Ask the registry for the ids of the folder's schemas, so that a later outage does not stop them."""
        for message in self._messages.values():
            for schema in message.versions:
                prefix = await self._registered_prefix(schema)
                if prefix is not None:
                    self._know(prefix, schema)

    async def prefix_for_writing(self, name: str) -> bytes:
        """Return the prefix of bodies that are written with the current schema of a message.

        Raises:
            ContractError: there is a registry, and it does not have the schema.
        """
        schema = self.forms[name].schema
        if self._registry is None:
            return wire.prefix_of_fingerprint(schema.fingerprint)
        prefix = await self._registered_prefix(schema)
        if prefix is None:
            subject = subject_of(self._topic, name)
            raise ContractError(
                f"the registry has no such schema under {subject}: run `tidemill schemas register`"
            )
        return prefix

    async def prepare(self, values: Iterable[bytes | None]) -> None:
        """Ask the registry for the ids in `values` that are new. Raises `Unavailable`."""
        if self._registry is None:
            return
        heads = {value[: wire.ID_BYTES] for value in values if value and value[0] == 0}
        unknown = [
            head
            for head in heads - self.readers.keys()
            if len(head) == wire.ID_BYTES and wire.id_of_prefix(head) <= wire.LARGEST_ID
        ]
        new = self._lookups.due(unknown) if unknown else []
        for start in range(0, len(new), _REQUESTS_AT_ONCE):
            await self._ask(self._registry, new[start : start + _REQUESTS_AT_ONCE])

    def decode(self, value: bytes) -> tuple[str, dict[str, Any]]:
        """Return full name and fields of one value, for uses that need not be fast.

        Raises:
            Unreadable: no known schema reads it, or its bytes do not match their schema.
        """
        at = wire.ID_BYTES if value[:1] == wire.ID_MAGIC else wire.FINGERPRINT_BYTES
        reader = self.readers.get(value[:at])
        if reader is None:
            raise Unreadable(ParkingCode.UNKNOWN_SCHEMA, self.why_unknown(value))
        try:
            return reader.name, reader.read_fields(value, at)
        except FAULTS as fault:
            raise Unreadable(ParkingCode.MALFORMED, explain(fault)) from fault

    def decode_alike(self, values: Sequence[bytes]) -> tuple[str, list[dict[str, Any]]] | None:
        """Return full name and fields of values, at least one, that one schema wrote.

        None if several did, or one cannot be read: `decode` says why.
        """
        at = wire.ID_BYTES if values[0][:1] == wire.ID_MAGIC else wire.FINGERPRINT_BYTES
        prefix = values[0][:at]
        reader = self.readers.get(prefix)
        if reader is None or not all(value.startswith(prefix) for value in values):
            return None
        read = reader.read_fields
        try:
            return reader.name, [read(value, at) for value in values]
        except FAULTS:
            return None

    def why_unknown(self, value: bytes) -> str:
        """Return why no reader takes a value."""
        if value.startswith(wire.FINGERPRINT_MAGIC):
            return f"no schema of this topic has the fingerprint {value[2 : wire.FINGERPRINT_BYTES].hex()}"
        head = value[: wire.ID_BYTES]
        schema_id = wire.id_of_prefix(head)
        if self._registry is None:
            return f"the value names schema {schema_id} of a registry, and none is configured"
        if schema_id > wire.LARGEST_ID:
            return f"the registry has no schema {schema_id}"
        unasked = "the registry was not asked for it, after too many unknown ids"
        return f"schema {schema_id}: {self._lookups.why(head) or unasked}"

    def _know(self, prefix: bytes, writer: Schema) -> None:
        if dangers(writer.record):
            raise ContractError(f"{writer.name} is dangerous to read; see `tidemill schemas check`")
        form = self.forms[writer.name]
        same = writer.layout == form.schema.layout
        self.readers[prefix] = form if same else Resolution(writer, form, whole=self._whole)

    async def _registered_prefix(self, schema: Schema) -> bytes | None:
        if self._registry is None:
            return None
        schema_id = await self._registry.id_of(subject_of(self._topic, schema.name), schema.text)
        return None if schema_id is None else wire.prefix_of_id(schema_id)

    async def _ask(self, registry: SchemaRegistry, heads: Sequence[bytes]) -> None:
        requests = (registry.find(wire.id_of_prefix(head)) for head in heads)
        answers = await asyncio.gather(*requests, return_exceptions=True)
        for head, answer in zip(heads, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            self._judge(head, answer)

    def _judge(self, head: bytes, answer: Registered | None) -> None:
        try:
            if answer is None:
                raise ContractError("the registry does not have it")
            self._admit(head, answer)
        except ContractError as fault:
            self._lookups.refuse(head, str(fault))
        else:
            self._lookups.accept(head)

    def _admit(self, head: bytes, answer: Registered) -> None:
        """Load the schema if this topic may carry it. Raises `ContractError` if not."""
        schema = Schema.of(answer.text)
        subject = subject_of(self._topic, schema.name)
        if subject not in answer.subjects:
            raise ContractError(f"{schema.name} is not registered under {subject}")
        if faults := dangers(schema.record):
            raise ContractError(f"{schema.name} cannot be read: {faults[0][1]}")
        out_of_reach = self._out_of_reach(schema)
        if out_of_reach is None:
            self._know(head, schema)
        elif self._whole:
            self.readers[head] = NewerReader(schema, out_of_reach)
        else:
            raise ContractError(f"{schema.name} {out_of_reach}")

    def _out_of_reach(self, schema: Schema) -> str | None:
        """Return why no schema of this version reads another one, None if one does."""
        form = self.forms.get(schema.name)
        if form is None:
            return f"is not a message of {self._topic} that this version knows"
        faults = obstacles(reader=form.schema.record, writer=schema.record)
        return f"cannot be read by this version: {faults[0]}" if faults else None
