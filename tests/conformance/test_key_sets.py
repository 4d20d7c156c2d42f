"""What every `KeySetSource` promises, asked of the fake and of the real ones alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.key_sets import MemoryKeySet
from tests.support.security.key_servers import key_server, response
from tidemill.domain.errors import Unavailable
from tidemill.security.ports import KeySetSource
from tidemill.transport.jwks import JwksAddress, JwksFile

MAX_BYTES = 1_000


@dataclass
class Side:
    """One side. `put` gives it a content, None makes it unavailable."""

    source: KeySetSource
    put: Callable[[bytes | None], None]


@pytest.fixture(params=["memory", "file", "address"])
async def side(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Side]:
    if request.param == "memory":
        fake = MemoryKeySet(max_bytes=MAX_BYTES)
        yield Side(fake, lambda content: setattr(fake, "content", content))
    elif request.param == "file":
        path = tmp_path / "keys.json"

        def write(content: bytes | None) -> None:
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)

        yield Side(JwksFile(path, max_bytes=MAX_BYTES), write)
    else:
        async with key_server() as server:

            def answer(content: bytes | None) -> None:
                server.answer = b"" if content is None else response(content)

            address = JwksAddress(server.url, max_bytes=MAX_BYTES)
            yield Side(address, answer)
            await address.close()


async def test_the_content_comes_as_it_is_and_anew_each_time(side: Side) -> None:
    for content in (b'{"keys": []}', b"", b"\xff\x00", b"x" * MAX_BYTES):
        side.put(content)
        assert await side.source.key_set() == content
    await side.source.close()


async def test_what_is_not_there_is_unavailable_until_it_is(side: Side) -> None:
    side.put(None)
    with pytest.raises(Unavailable, match="key set is not available"):
        await side.source.key_set()
    side.put(b"{}")
    assert await side.source.key_set() == b"{}"


async def test_what_is_too_large_is_not_taken(side: Side) -> None:
    side.put(b"x" * (MAX_BYTES + 1))
    with pytest.raises(Unavailable, match=r"too large|more than 1000 bytes"):
        await side.source.key_set()
