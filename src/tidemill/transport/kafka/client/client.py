"""Connection settings, and the only place that makes aiokafka's clients.

The client's defaults lose data (offsets committed by a timer, start at the end, aborted records shown, one
acknowledgement). They are not used here: every consumer reads committed records from sought offsets, every
producer waits for all in-sync replicas. A test keeps other modules from making clients of their own.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from ssl import SSLContext, TLSVersion, create_default_context
from typing import Any, Final, Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.producer import sender
from pydantic import SecretStr

from tidemill.domain.errors import UsageError
from tidemill.transport.kafka.client.start import note_connections
from tidemill.transport.kafka.patches.decompression_limit import limit_unpacking
from tidemill.transport.kafka.patches.header_names import read_any_name

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_REBALANCE_MS: Final = 30_000
"""How long the group waits for a live member, which may have to end a batch first. A dead one is removed sooner."""

_TRANSACTION_PAUSE_S: Final = 0.003
"""How long a transaction waits for the end of the one before it in its partitions, which takes a broker 1-3 ms: with
the client's 20 ms single events of a lane take 21 ms each, with this 5."""

_SELDOM_MS: Final = (240_000, 360_000)
"""How long clients that are idle most of the time keep what they know of leaders: the producer of each lane, whose
answers list all partitions of three topics, the producer of replies, whose answers list all topics of the cluster until
it has sent one, and consumers for questions. Asked every half a minute, these answers were half of what an idle process
cost. A broker that no longer leads a partition refuses what it is asked, and then the client asks at once. At random,
or all would ask together."""

_SAFE_CONSUMER: Final[dict[str, Any]] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "isolation_level": "read_committed",
    "check_crcs": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """Where Kafka is and how to connect to it. Raises `UsageError` for settings that contradict each other.

    `bootstrap`: `HOST:PORT[,HOST:PORT...]`. `request_timeout_ms`: one try of one request. `call_timeout_s`: a whole
    call, retries included. `close_timeout_s`: how long a client may take for a clean end. `session_s`: how long a
    member of a group may be silent.
    """

    bootstrap: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr | None = None
    sasl_mechanism: SaslMechanism | None = None
    sasl_user: str | None = None
    sasl_password: SecretStr | None = None
    client_id: str = "tidemill"
    request_timeout_ms: int = 10_000
    call_timeout_s: float = 15.0
    close_timeout_s: float = 3.0
    session_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse an incomplete login, and certificates that would not be used."""
        login = (self.sasl_mechanism, self.sasl_user, self.sasl_password)
        if self.logs_in != all(login) or self.logs_in != any(login):
            raise UsageError(
                f"Kafka with {self.security_protocol}: mechanism, user and password are needed with SASL_SSL and "
                "SASL_PLAINTEXT, and only there; set all of them or none"
            )
        if not self.encrypts and (self.ca_file or self.cert_file):
            raise UsageError(
                f"Kafka: certificates are not used with {self.security_protocol}: set SSL or SASL_SSL"
            )

    @property
    def logs_in(self) -> bool:
        """Whether a user and a password are sent."""
        return self.security_protocol.startswith("SASL")

    @property
    def encrypts(self) -> bool:
        """Whether the connection is TLS."""
        return self.security_protocol.endswith("SSL")

    def options(self) -> dict[str, Any]:
        """Return the arguments of any client of aiokafka, which is patched by then.

        Raises `UsageError` for certificates it cannot read.
        """
        patch_client()
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap.split(","),
            "client_id": self.client_id,
            "request_timeout_ms": self.request_timeout_ms,
            "metadata_max_age_ms": 30_000,  # the default, 5 min, is how long a new leader or partition stays unknown
            "security_protocol": self.security_protocol,
        }
        if self.encrypts:
            options["ssl_context"] = self._ssl_context()
        if self.logs_in and self.sasl_password is not None:
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_user
            options["sasl_plain_password"] = self.sasl_password.get_secret_value()
        return options

    def _ssl_context(self) -> SSLContext:
        password = self.key_password.get_secret_value() if self.key_password else ""
        files = (self.ca_file, self.cert_file, self.key_file)
        try:
            changed = tuple(file.stat().st_mtime_ns for file in files if file is not None)
            return _ssl_context(*files, password, changed)
        except OSError as error:
            raise UsageError(
                f"Kafka: a certificate or key cannot be read: {error}; check the files"
            ) from error


@cache
def patch_client() -> None:
    """Patch aiokafka, for this process; importing a module does not patch it.

    `tests/unit/transport/kafka/patches/test_still_needed.py` shows that each patch is still needed.
    """
    limit_unpacking()
    read_any_name()
    note_connections()
    sender.BACKOFF_OVERRIDE = _TRANSACTION_PAUSE_S


@lru_cache(maxsize=8)
def _ssl_context(
    ca_file: Path | None,
    cert_file: Path | None,
    key_file: Path | None,
    password: str,
    _changed: tuple[int, ...],
) -> SSLContext:
    """Require a signed certificate for the host, as the context does by default.

    Cached, since reading the system's certificates takes 20 ms and every lane has its own client; renewed files are
    read again.
    """
    context = create_default_context(cafile=ca_file)
    context.minimum_version = (
        TLSVersion.TLSv1_2
    )  # the default depends on how the machine's OpenSSL is configured
    if cert_file is not None:
        # a function, so that a key with a password never makes OpenSSL ask at the terminal
        context.load_cert_chain(cert_file, key_file, lambda: password)
    return context


def _seldom(connection: KafkaConnection) -> dict[str, Any]:
    age_ms = random.randint(*_SELDOM_MS)  # noqa: S311  spreads requests, guards nothing
    return connection.options() | {"metadata_max_age_ms": age_ms}


def group_consumer(connection: KafkaConnection, *, group: str) -> AIOKafkaConsumer:
    """Return a member of `group`, not started: range assignment, no static membership."""
    session_ms = int(connection.session_s * 1000)
    return AIOKafkaConsumer(
        **connection.options(),
        **_SAFE_CONSUMER,
        group_id=group,
        # partition p of every topic goes to the same member only with `range`
        partition_assignment_strategy=(RangePartitionAssignor,),
        session_timeout_ms=session_ms,
        rebalance_timeout_ms=max(session_ms, _REBALANCE_MS),
        heartbeat_interval_ms=min(3_000, session_ms // 4),
        max_poll_interval_ms=300_000,
        fetch_max_bytes=16 << 20,
        max_partition_fetch_bytes=1 << 20,
    )


def manual_consumer(
    connection: KafkaConnection, *, partition_bytes: int = 1 << 20, seldom: bool = False
) -> AIOKafkaConsumer:
    """Return a consumer without a group, not started: it reads what `assign` and `seek` set.

    `seldom`: it only answers a question now and then.
    """
    return AIOKafkaConsumer(
        **(_seldom(connection) if seldom else connection.options()),
        **_SAFE_CONSUMER,
        group_id=None,
        fetch_max_bytes=16 << 20,
        max_partition_fetch_bytes=partition_bytes,
    )


def watermark_consumer(connection: KafkaConnection) -> AIOKafkaConsumer:
    """Return a consumer, not started, whose `end_offsets` include open transactions; not for reading records."""
    return AIOKafkaConsumer(
        **_seldom(connection), **{**_SAFE_CONSUMER, "isolation_level": "read_uncommitted"}, group_id=None
    )


def transactional_producer(
    connection: KafkaConnection, *, transactional_id: str, transaction_timeout_ms: int, batch_bytes: int
) -> AIOKafkaProducer:
    """Return a producer, not started, that fences every earlier one of the same id."""
    return AIOKafkaProducer(
        **_seldom(connection),
        acks="all",
        transactional_id=transactional_id,
        transaction_timeout_ms=transaction_timeout_ms,
        max_batch_size=batch_bytes,
    )


def idempotent_producer(
    connection: KafkaConnection, *, batch_bytes: int, linger_ms: int = 0
) -> AIOKafkaProducer:
    """Return a producer, not started, whose retries do not duplicate records."""
    return AIOKafkaProducer(
        **_seldom(connection),
        acks="all",
        enable_idempotence=True,
        max_batch_size=batch_bytes,
        max_request_size=batch_bytes,
        linger_ms=linger_ms,
    )


def expiring_producer(connection: KafkaConnection) -> AIOKafkaProducer:
    """Return a producer, not started, that gives a record up after the request timeout: for what may be lost."""
    return AIOKafkaProducer(**_seldom(connection), acks="all", enable_idempotence=False)


def admin_client(connection: KafkaConnection) -> AIOKafkaAdminClient:
    """Return an admin client, not started."""
    return AIOKafkaAdminClient(**connection.options())
