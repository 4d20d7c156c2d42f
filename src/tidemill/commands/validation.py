"""Screening: the checks of a record before any transaction.

Decode strictly, validate the fields, check that the lane owns the key, give the command its identity. Pure except for
the codec, so that one batch is screened while another is in the database.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tidemill.commands.crashes import crashed
from tidemill.commands.ports import CommandCodec, Decoded
from tidemill.domain.context import CommandSpec
from tidemill.domain.decision import Rejected
from tidemill.domain.errors import Unreadable
from tidemill.domain.headers import MAX_HEADER_BYTES, MAX_HEADERS, cut_headers
from tidemill.domain.identity import identify
from tidemill.domain.lane import InboundRecord
from tidemill.domain.messages import CommandBase
from tidemill.domain.partial_message import InvalidMessage, Path
from tidemill.domain.partitioner import partition_of
from tidemill.domain.rejections import ParkingCode, RejectionCode
from tidemill.domain.secrets import secrets_of
from tidemill.domain.stream import Stream

MAX_KEY_BYTES = 4096

_MAX_MESSAGE_CHARACTERS = 1_000
"""As many as the log keeps."""

_OWN_TEXTS = frozenset({"value_error", "assertion_error"})
"""Pydantic's names of faults whose text a validator of a context wrote."""


@dataclass(slots=True)
class IncomingCommand:
    """A record that passes through a batch.

    `disposition` is what is certain before the transaction: unreadable, rejected, or None (rules decide).
    `command_id` is the canonical text of the identity (`domain.identity`), None where no identity could be read; such
    a record can be neither duplicate nor duplicated. `headers_text`: its headers as stored in a parked row, made
    before the transaction for records to be parked. `invalid`: of a command with invalid fields all that is wrong.
    """

    lane_id: int
    record: InboundRecord
    decoded: Decoded | None = None
    command: CommandBase | None = None
    spec: CommandSpec | None = None
    command_id: str | None = None
    digest: int = 0
    disposition: Rejected | Unreadable | None = None
    headers_text: str | None = None
    invalid: InvalidMessage | None = None

    def disposition_at(self, at: datetime) -> Rejected | Unreadable | None:
        """Return what is certain, with what only the clock knows of a command that has invalid fields."""
        if self.invalid is None or not isinstance(self.disposition, Rejected):
            return self.disposition
        timed = self.invalid.faults_at(at)
        if not timed:
            return self.disposition
        return Rejected(self.disposition.code, _bounded([*self.invalid.faults, *timed]))


@dataclass(frozen=True)
class Validator:
    """Screens the records of one stream."""

    stream: Stream
    codec: CommandCodec
    adapters: dict[str, TypeAdapter[list[CommandBase]]] = field(default_factory=dict, init=False)
    unquoted: dict[str, frozenset[str]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Build one validator per command class: a list is validated in one pass."""
        for name, spec in self.stream.commands.items():
            self.adapters[name] = TypeAdapter(list[spec.model])  # type: ignore[name-defined]  # a class of a value
            secrets = secrets_of(spec.model).items()
            self.unquoted[name] = frozenset(
                secret_name for secret_name, secret in secrets if not secret.names
            )

    async def validate(self, lane_records: Sequence[tuple[int, InboundRecord]]) -> list[IncomingCommand]:
        """Return an arrival for every (lane id, record), in order. Raises `Unavailable` for the registry."""
        values = [record.value for _, record in lane_records]
        await self.codec.prepare(values)
        arrivals = [_arrival(lane_id, record) for lane_id, record in lane_records]
        for name, readable in self._decode(arrivals, values).items():
            self._validate(name, readable)
        return arrivals

    def _decode(
        self, arrivals: Sequence[IncomingCommand], values: Sequence[bytes | None]
    ) -> dict[str, list[IncomingCommand]]:
        by_name: dict[str, list[IncomingCommand]] = defaultdict(list)
        for arrival, decoded in zip(arrivals, self.codec.decode(values), strict=True):
            if arrival.disposition is not None:
                continue
            if isinstance(decoded, Unreadable):
                arrival.disposition = decoded
            else:
                arrival.decoded = decoded
                by_name[decoded.name].append(arrival)
        return by_name

    def _validate(self, name: str, arrivals: list[IncomingCommand]) -> None:
        spec = self.stream.commands[name]
        seed = zlib.crc32(name.encode())
        self._read_fields(name, arrivals)
        for arrival in arrivals:
            arrival.spec = spec
            decoded = arrival.decoded
            assert decoded is not None
            arrival.digest = zlib.crc32(decoded.facts, seed)
            command = arrival.command
            if command is not None:
                arrival.command_id = identify(command.command_id, command.service_name)
                self._check_lane(arrival, command)
            else:
                arrival.command_id = _identity_of_invalid(decoded.fields)

    def _read_fields(self, name: str, arrivals: list[IncomingCommand]) -> None:
        """Make the command objects; on a refusal validate the others again, in one more pass."""
        adapter = self.adapters[name]
        candidates = arrivals
        while candidates:
            fields = [arrival.decoded.fields for arrival in candidates if arrival.decoded is not None]
            try:
                commands = adapter.validate_python(fields)
            except ValidationError as error:
                invalid = _faults(error, self.unquoted[name])
                for index, faults in invalid.items():
                    _refuse(candidates[index], self.stream.commands[name], faults)
                candidates = [each for index, each in enumerate(candidates) if index not in invalid]
            except Exception as fault:  # noqa: BLE001  a validator's bug must not stop its lane
                if len(candidates) == 1:
                    candidates[0].disposition = crashed(fault, quoted=not self.stream.secrets)
                    return
                for candidate in candidates:
                    self._read_fields(name, [candidate])
                return
            else:
                for arrival, command in zip(candidates, commands, strict=True):
                    arrival.command = command
                return

    def _check_lane(self, arrival: IncomingCommand, command: CommandBase) -> None:
        """A key belongs to one lane; otherwise two lanes would decide about the same aggregate."""
        if not self.stream.keyed:
            return
        record = arrival.record
        try:
            key = self.stream.key(command)
            expected = key.encode()
        except Exception as fault:  # noqa: BLE001  a key function's bug must not stop its lane
            arrival.disposition = crashed(fault, quoted=not self.stream.secrets)
            return
        if record.key != expected:
            arrival.disposition = Rejected(
                RejectionCode.WRONG_KEY, f"the record's key must be {key!r}, it is {record.key!r}"
            )
            return
        partition = partition_of(expected, self.stream.partitions)
        if partition != record.partition:
            arrival.disposition = Rejected(
                RejectionCode.WRONG_PARTITION,
                f"key {key!r} belongs to partition {partition}, the record is in {record.partition}: "
                "set partitioner=murmur2_random in librdkafka clients (Java and aiokafka do it by default)",
            )


def _arrival(lane_id: int, record: InboundRecord) -> IncomingCommand:
    """Take a record in. Its key is sent with every outcome, so it must fit there."""
    key, headers = record.key, record.headers
    if key is not None and len(key) > MAX_KEY_BYTES:
        detail = f"a key of {len(key)} bytes, at most {MAX_KEY_BYTES}"
        return IncomingCommand(lane_id, record, disposition=Unreadable(ParkingCode.TOO_BIG, detail))
    if headers and (cut := cut_headers(headers)) is not None:
        detail = f"{cut}, at most {MAX_HEADERS} of {MAX_HEADER_BYTES} bytes are read"
        return IncomingCommand(lane_id, record, disposition=Unreadable(ParkingCode.TOO_BIG, detail))
    return IncomingCommand(lane_id, record)


def _refuse(arrival: IncomingCommand, spec: CommandSpec, faults: Sequence[tuple[Path, str]]) -> None:
    """Refuse a command with invalid fields, with every fault that is certain now."""
    assert arrival.decoded is not None
    arrival.invalid = InvalidMessage(spec.model, arrival.decoded.fields, faults, spec.timed_checks)
    arrival.disposition = Rejected(RejectionCode.INVALID, _bounded(arrival.invalid.faults))


def _faults(error: ValidationError, unquoted: Collection[str]) -> dict[int, list[tuple[Path, str]]]:
    """Return index in the list -> all faults of one command, each with its path and a readable reason.

    `unquoted`: fields of which no validator's own text is told, since it may quote the value.
    """
    faults: dict[int, list[tuple[Path, str]]] = defaultdict(list)
    for fault in error.errors(include_url=False, include_context=False):
        index, *path = fault["loc"]
        where = ".".join(str(part) for part in path)
        what = fault["msg"].removeprefix("Value error, ")  # pydantic's prefix is of no use to the sender
        if path and path[0] in unquoted and fault["type"] in _OWN_TEXTS:
            what = "the value of a secret is refused; it is not quoted"
        faults[int(index)].append((tuple(path), f"{where}: {what}" if where else what))
    return faults


def _bounded(texts: Sequence[str]) -> str:
    """Return the first faults, whole, and how many there are more; the first one is cut where it is too long."""
    room = _MAX_MESSAGE_CHARACTERS - len(f"; and {len(texts)} more")
    ends = accumulate(len(text) + len("; ") for text in texts)
    fit = sum(end <= room for end in ends) or 1
    shown = "; ".join(texts[:fit])[:_MAX_MESSAGE_CHARACTERS]
    return f"{shown[:room]}; and {len(texts) - fit} more" if fit < len(texts) else shown


def _identity_of_invalid(fields: dict[str, Any]) -> str | None:
    """An invalid command has an identity, so that its repeat gets the first outcome, unless its id is invalid."""
    try:
        base = CommandBase.model_validate({name: fields.get(name) for name in CommandBase.model_fields})
    except ValidationError:
        return None
    return identify(base.command_id, base.service_name)
