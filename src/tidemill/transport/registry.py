"""The schema registry, by Confluent's client: Confluent's own, Apicurio's or Karapace's.

Every request has a deadline. The client's cache answers repeated look-ups from schema to id. The caller caches
the schemas of ids, and missing ones: the client would keep every schema that was ever named.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
from confluent_kafka.schema_registry import AsyncSchemaRegistryClient, Schema, SchemaRegistryError

from tidemill.catalog.ports import Compatibility, Registered
from tidemill.domain.errors import ContractError, Unavailable, UsageError

DEADLINE_S: Final = 5.0
_MISSING: Final = (40401, 40402, 40403)  # subject, version, schema; a bare 404 is a wrong address, or a proxy
_REFUSED: Final = (409, 422)
_MISCONFIGURED: Final = (400, 401, 403, 404, 405)

_CLASS_NAMES: Final = re.compile(r"\b(?:[a-z]\w*\.)+[A-Z]\w*(?:Exception|Error): *")
_NOT_ACCEPTED: Final = "CERTIFICATE_VERIFY_FAILED"
_CERTIFICATE_ADVICE: Final = (
    "TIDEMILL_REGISTRY_CA_FILE must hold the signer of its certificate, which must name the host in "
    "TIDEMILL_REGISTRY_URL"
)
_ADDRESS_ADVICE: Final = "see TIDEMILL_REGISTRY_URL, TIDEMILL_REGISTRY_USER and TIDEMILL_REGISTRY_PASSWORD"

T = TypeVar("T")


class ConfluentRegistry:
    """A `SchemaRegistry` behind Confluent's REST interface. Belongs to the event loop that it is first used in."""

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        ca_file: Path | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """`url`: the base address, such as `http://127.0.0.1:8081`; `deadline_s` bounds every call.

        Raises: `UsageError` if `ca_file` holds no certificates.
        """
        config: dict[str, Any] = {"url": url, "timeout": deadline_s, "max.retries": 0}
        if user is not None:
            config["basic.auth.user.info"] = f"{user}:{password or ''}"
        if ca_file is not None:
            config["ssl.ca.location"] = str(ca_file)
        try:
            self._client = AsyncSchemaRegistryClient(config)
        except OSError as fault:  # ssl.SSLError is one
            raise UsageError(
                f"the registry's certificates cannot be read: {fault}; see TIDEMILL_REGISTRY_CA_FILE"
            ) from fault
        self._deadline_s = deadline_s
        self._proxy = proxy_advice(url)

    async def find(self, schema_id: int) -> Registered | None:
        schema = await self._ask(self._client.get_schema(schema_id))
        if schema is None or schema.schema_str is None or schema.schema_type not in (None, "AVRO"):
            return None
        versions = await self._ask(self._client.get_schema_versions(schema_id))
        await self._client.clear_caches()  # type: ignore[no-untyped-call]  # the client types only most of it
        return Registered(
            schema.schema_str, frozenset(version.subject for version in versions or () if version.subject)
        )

    async def id_of(self, subject: str, text: str) -> int | None:
        # Normalized, since registries differ in whether they keep white space and the order of keys.
        found = await self._ask(
            self._client.lookup_schema(subject, Schema(text, "AVRO"), normalize_schemas=True)
        )
        return None if found is None else found.schema_id

    async def register(self, subject: str, text: str) -> int:
        try:
            schema = Schema(text, "AVRO")
            return await self._within(self._client.register_schema(subject, schema, normalize_schemas=True))
        except SchemaRegistryError as fault:
            if fault.http_status_code in _REFUSED:
                raise ContractError(_refusal(subject, fault)) from fault
            raise self._unavailable(fault) from fault

    async def require(self, subject: str, level: Compatibility) -> None:
        await self._ask(self._client.set_compatibility(subject, level))

    async def close(self) -> None:
        await self._within(self._client.aclose())

    async def _ask(self, request: Awaitable[T]) -> T | None:
        """Return the answer, None if the registry does not have it."""
        try:
            return await self._within(request)
        except SchemaRegistryError as fault:
            if fault.error_code in _MISSING:
                return None
            raise self._unavailable(fault) from fault

    async def _within(self, request: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await request
        except TimeoutError as fault:
            raise self._unreachable(f"no answer within {self._deadline_s:g} s") from fault
        except (httpx2.HTTPError, ValueError) as fault:  # ValueError: an answer that is not JSON
            raise self._unreachable(str(fault) or type(fault).__name__) from fault

    def _unreachable(self, text: str) -> Unavailable:
        if _NOT_ACCEPTED in text:
            return Unavailable("registry", f"{text}: {_CERTIFICATE_ADVICE}", advised=True)
        if self._proxy is not None:
            return Unavailable("registry", f"{text}; {self._proxy}", advised=True)
        return Unavailable("registry", text)

    def _unavailable(self, fault: SchemaRegistryError) -> Unavailable:
        text = f"it answered {fault.http_status_code}: {fault.error_message}"
        advice = [_ADDRESS_ADVICE] if fault.http_status_code in _MISCONFIGURED else []
        advice += [] if self._proxy is None else [self._proxy]
        return Unavailable("registry", "; ".join([text, *advice]), advised=bool(advice))


def _refusal(subject: str, fault: SchemaRegistryError) -> str:
    """Return what the registry found, without the names of its classes, and what finds it before."""
    reason = _CLASS_NAMES.sub("", str(fault.error_message))
    return (
        f"the registry refuses {subject}: {reason}; `tidemill schemas check` compares with released versions"
    )


def proxy_advice(url: str) -> str | None:
    """Return what to do if the environment sends requests to `url` through a proxy that fails; None without one."""
    address = urlsplit(url)
    proxies = {name: proxy for name, proxy in getproxies().items() if name in (address.scheme, "all")}
    if not proxies or proxy_bypass(address.hostname or ""):
        return None
    scheme = address.scheme if address.scheme in proxies else "all"
    variable = f"{scheme.upper()}_PROXY"
    proxy = urlsplit(proxies[scheme]).netloc.rpartition("@")[2] or proxies[scheme]
    return (
        f"it was asked through the proxy {proxy}, which {variable} names: add {address.hostname} to NO_PROXY, "
        f"or correct {variable}"
    )
