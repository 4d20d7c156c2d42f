"""Where the key set of those who sign JWTs is: a file, or one https address; `security.ports.KeySetSource`.

Only the address that the operator set is asked: no redirect is followed, no proxy or password of the environment used.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final

import httpx2

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import Unavailable, UsageError

DEADLINE_S: Final = 5.0
MAX_BYTES: Final = 262_144
_OK: Final = 200


class JwksFile:
    """A key set in a file, which the operator may replace at any time."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Nothing is read yet."""
        self._path = path
        self._max_bytes = max_bytes

    async def key_set(self) -> bytes:
        try:
            content = await asyncio.to_thread(self._content)
        except OSError as fault:
            raise _unavailable(f"{self._path} cannot be read: {fault.strerror}") from fault
        if len(content) > self._max_bytes:
            raise _too_large(str(self._path), self._max_bytes)
        return content

    async def close(self) -> None:
        """Nothing is open."""

    def _content(self) -> bytes:
        with self._path.open("rb") as opened:
            return opened.read(self._max_bytes + 1)


class JwksAddress:
    """A key set at an address. Belongs to the event loop that it is first used in."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        deadline_s: float = DEADLINE_S,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """`ca_file`: the signer of the server's certificate, else the package certifi's.

        `deadline_s`: for the whole answer, however slowly it comes.

        Raises: `UsageError` if `ca_file` holds no certificates.
        """
        self._url = url
        self._deadline_s = deadline_s
        self._max_bytes = max_bytes
        self._client = httpx2.AsyncClient(
            verify=_trust(ca_file), follow_redirects=False, trust_env=False, timeout=deadline_s
        )

    async def key_set(self) -> bytes:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._content()
        except TimeoutError as fault:
            raise _unavailable(f"{self._url} gave no answer within {self._deadline_s:g} s") from fault
        except (httpx2.HTTPError, ValueError) as fault:
            raise _unavailable(f"{self._url}: {str(fault) or type(fault).__name__}") from fault

    async def close(self) -> None:
        await self._client.aclose()

    async def _content(self) -> bytes:
        # Not packed, so that what is counted is all that is held.
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        content = bytearray()
        async with self._client.stream("GET", self._url, headers=headers) as answer:
            if answer.status_code != _OK:
                raise _unavailable(f"{self._url} answered {answer.status_code}")
            async for part in answer.aiter_raw():
                content += part
                if len(content) > self._max_bytes:
                    raise _too_large(self._url, self._max_bytes)
        return bytes(content)


def _trust(ca_file: Path | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as fault:  # ssl.SSLError is one
        raise UsageError(
            f"the key set's certificates cannot be read: {fault}",
            code=ErrorCode.LOGIN_REFUSED,
            settings="TIDEMILL_JWT_CA_FILE",
        ) from fault


def _unavailable(detail: str) -> Unavailable:
    return Unavailable("key set", detail, advised=True)


def _too_large(place: str, max_bytes: int) -> Unavailable:
    return _unavailable(f"{place} has more than {max_bytes} bytes")
