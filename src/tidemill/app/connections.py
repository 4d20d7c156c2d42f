"""From settings to connections: the database, Kafka, the registry. The exit stack that is passed in closes them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from typing import Literal

from tidemill.catalog.ports import SchemaRegistry
from tidemill.settings import DatabaseSettings, Settings
from tidemill.storage.database.libpq import with_tls
from tidemill.storage.database.pool import (
    Cutoff,
    Pool,
    Timeouts,
    close_pool,
    create_pool,
    tls_context,
)
from tidemill.storage.database.probe import PROBE_TIMEOUTS, DatabaseProbe
from tidemill.transport.kafka.client.client import KafkaConnection

Login = Literal["service", "migration", "reader", "archiver", "retention", "http"]
Tls = ssl.SSLContext | Literal[False] | None


class SharedResources(AsyncExitStack):
    """What the services of one process share.

    `cutoff`: ends their waits for the database. `names`: the application names of their connections. `missing`: the
    servers (`database`, `kafka`) that did not answer when they were last asked.
    """

    def __init__(self) -> None:
        """Nothing is open."""
        super().__init__()
        self.cutoff = Cutoff()
        self.names: set[str] = set()
        self.missing: Callable[[], Collection[str]] = tuple[str, ...]


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
    return with_tls(
        settings.dsn(login),
        sslmode=settings.sslmode,
        ca_file=settings.ca_file,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
    )


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


def database_probe(settings: Settings, login: Login = "service") -> DatabaseProbe:
    """Return what asks the database, with a login of the process."""
    return DatabaseProbe(
        lambda shared: open_pool(
            shared, settings, name="tidemill health", size=1, login=login, timeouts=PROBE_TIMEOUTS
        )
    )
