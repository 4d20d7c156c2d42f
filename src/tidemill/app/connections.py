"""From settings to connections: the database, Kafka, the registry. The exit stack that is passed in closes them."""

from __future__ import annotations

import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from tidemill.catalog.ports import SchemaRegistry
from tidemill.settings import DatabaseSettings, Settings
from tidemill.storage.database.pool import (
    Cutoff,
    Pool,
    Timeouts,
    close_pool,
    connection,
    create_pool,
    tls_context,
)
from tidemill.transport.kafka.client.client import KafkaConnection

Login = Literal["service", "migration", "reader", "archiver", "retention"]
Tls = ssl.SSLContext | Literal[False] | None

_PROBE_TIMEOUTS: Final = Timeouts(connect_s=2.0, statement_ms=2_000, command_s=2.0)


class SharedResources(AsyncExitStack):
    """What the services of one process share.

    `cutoff`: ends their waits for the database. `names`: the application names of their connections.
    """

    def __init__(self) -> None:
        """Nothing is open."""
        super().__init__()
        self.cutoff = Cutoff()
        self.names: set[str] = set()


def database_tls(settings: DatabaseSettings) -> Tls:
    """Return how to encrypt; None leaves it to the URL, which has the mode or names a server of this machine."""
    if settings.sslmode is None:
        return None
    return tls_context(
        settings.sslmode,
        ca_file=settings.ca_file,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
    )


def libpq_url(settings: DatabaseSettings, login: Login) -> str:
    """Return the URL of a login for drivers of libpq, with the TLS settings in it.

    It holds a password: pass it to the driver, never to a log. Raises `UsageError` if none is set.
    """
    parts = urlsplit(settings.dsn(login))
    tls = {
        "sslmode": settings.sslmode,
        "sslrootcert": settings.ca_file,
        "sslcert": settings.cert_file,
        "sslkey": settings.key_file,
    }
    given = {name: str(value) for name, value in tls.items() if value is not None}
    if settings.sslmode == "verify-full" and settings.ca_file is None:
        # as our other driver does; libpq's own default is a file in the user's home folder
        given["sslrootcert"] = "system"
    return parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | given)).geturl()


async def open_pool(
    shared: AsyncExitStack,
    settings: Settings,
    *,
    name: str,
    size: int,
    login: Login = "service",
    timeouts: Timeouts | None = None,
    writes: bool = True,
) -> Pool:
    """Open a pool of connections, which `shared.cutoff` ends if there is one.

    `writes`: a read-only server is refused even for queries: its data may lag.

    Raises:
        Unavailable: the database is unavailable, or read-only.
        UsageError: it refuses the login, or the settings contradict each other.
    """
    pool = await create_pool(
        settings.database.dsn(login),
        application_name=name,
        size=size,
        timeouts=timeouts,
        tls=database_tls(settings.database),
        cutoff=shared.cutoff if isinstance(shared, SharedResources) else None,
        writes=writes,
    )
    shared.push_async_callback(close_pool, pool)
    if isinstance(shared, SharedResources):
        shared.names.add(name)
    return pool


def kafka_connection(settings: Settings, client_id: str = "tidemill") -> KafkaConnection:
    """Return where Kafka is and how to connect to it. Raises `UsageError`."""
    kafka = settings.kafka
    return KafkaConnection(
        bootstrap=kafka.servers(),
        security_protocol=kafka.security_protocol or "PLAINTEXT",
        ca_file=kafka.ca_file,
        cert_file=kafka.cert_file,
        key_file=kafka.key_file,
        key_password=kafka.key_password,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_user=kafka.sasl_user,
        sasl_password=kafka.sasl_password,
        client_id=client_id,
        session_s=kafka.session_s,
    )


def open_registry(shared: AsyncExitStack, settings: Settings) -> SchemaRegistry | None:
    """Return the schema registry, None if there is none."""
    registry = settings.registry
    if registry.url is None:
        return None
    password = registry.password.get_secret_value() if registry.password else None
    from tidemill.transport.registry import ConfluentRegistry  # noqa: PLC0415  a fifth of a second, for its logins

    opened = ConfluentRegistry(registry.url, user=registry.user, password=password, ca_file=registry.ca_file)
    shared.push_async_callback(opened.close)
    return opened


@dataclass
class DatabaseProbe:
    """Probes the database with a connection of its own."""

    settings: Settings
    name: str = "database"
    login: Login = "service"

    def __post_init__(self) -> None:
        """Connect at the first probe."""
        self._shared = AsyncExitStack()
        self._pool: Pool | None = None

    async def ask(self) -> None:
        """Return if the database answers and takes writes. Raises `Unavailable`."""
        if self._pool is None:
            self._pool = await open_pool(
                self._shared,
                self.settings,
                name="tidemill health",
                size=1,
                login=self.login,
                timeouts=_PROBE_TIMEOUTS,
            )
        async with connection(self._pool, timeout_s=_PROBE_TIMEOUTS.connect_s) as borrowed:
            await borrowed.fetchval("select 1")

    async def close(self) -> None:
        """Close the connection."""
        await self._shared.aclose()
