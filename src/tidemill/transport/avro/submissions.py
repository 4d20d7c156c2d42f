"""Commands of every stream, written for their topics: `submissions.ports.PayloadEncoder`."""

from __future__ import annotations

from collections.abc import Mapping

from tidemill.domain.messages import CommandBase
from tidemill.submissions.ports import Payload
from tidemill.transport.avro.codec import StreamCodec


class AvroPayloads:
    """Encodes by the codecs of streams."""

    def __init__(self, codecs: Mapping[str, StreamCodec]) -> None:
        """`codecs`: by aggregate, with `max_bytes` at least what is submitted."""
        self._codecs = codecs

    async def encode(self, aggregate: str, command: CommandBase) -> Payload:
        codec = self._codecs[aggregate]
        value = await codec.encode_command(command)
        await codec.prepare([value])
        return Payload(value, codec.digest(value))
