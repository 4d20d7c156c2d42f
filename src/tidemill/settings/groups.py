"""The groups of settings: one class per group, one field per variable, each checked and described.

The descriptions of fields are those of `docs/settings.md`. Messages begin with the variable where a check concerns
several of them; a check of one field says only what was expected; the variable is added before it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    model_validator,
)

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import UsageError
from tidemill.security.master_keys import MasterKeys
from tidemill.settings.database_urls import is_local, travels_in_plain_text
from tidemill.settings.policies import policy_text
from tidemill.settings.values import (
    Codecs,
    DatabaseUrl,
    HttpUrl,
    JsonObject,
    LakeRoot,
    Pattern,
    SecretKeyList,
    Servers,
    TopicPrefix,
)


class Group(BaseModel):
    """A group of settings; immutable, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


Login = Literal["service", "migration", "reader", "archiver", "retention", "http"]


class DatabaseSettings(Group):
    """TimescaleDB. Each role has a login of its own; if only the first is given, it is used for all roles."""

    url: DatabaseUrl | None = Field(None, description="login of the service; a member of `tidemill_service`")
    migration_url: DatabaseUrl | None = Field(
        None, description="login that owns the tables, for `migrate` and `topics create`; else the service's"
    )
    reader_url: DatabaseUrl | None = Field(
        None, description="login for queries, a member of `tidemill_reader`; else the service's"
    )
    archiver_url: DatabaseUrl | None = Field(
        None,
        description="login of the reference archiver, a member of `tidemill_archiver`; else the service's",
    )
    retention_url: DatabaseUrl | None = Field(
        None,
        description="login that may drop archived rows, a member of `tidemill_retention`; else the service's",
    )
    http_url: DatabaseUrl | None = Field(
        None, description="login of `serve http`, a member of `tidemill_http`; else the service's"
    )
    sslmode: Literal["disable", "require", "verify-ca", "verify-full"] | None = Field(
        None, description="TLS; required if the server is not on this machine, `verify-full` is recommended"
    )
    ca_file: FilePath | None = Field(
        None, description="certificates that may sign the server's, as a PEM file; else the machine's own"
    )
    cert_file: FilePath | None = Field(None, description="client certificate for the server, as a PEM file")
    key_file: FilePath | None = Field(None, description="key of that certificate, as a PEM file")

    @model_validator(mode="after")
    def _refuse_silent_plain_text(self) -> Self:
        others = (self.migration_url, self.reader_url, self.archiver_url, self.retention_url, self.http_url)
        for url in (self.url, *others):
            if url is not None and self.sslmode is None and travels_in_plain_text(url.get_secret_value()):
                raise ValueError(
                    "TIDEMILL_DATABASE_SSLMODE: expected a value, since the database is on another machine: "
                    "verify-full (with TIDEMILL_DATABASE_CA_FILE if its authority is a private one), "
                    "or disable if the network between them is trusted"
                )
        return self

    def dsn(self, login: Login = "service") -> str:
        """Return the connection URL of a login. Raises `UsageError` if none is set.

        It holds a password: pass it to the driver, never to a log.
        """
        logins = {
            "migration": self.migration_url,
            "reader": self.reader_url,
            "archiver": self.archiver_url,
            "retention": self.retention_url,
            "http": self.http_url,
        }
        own = logins.get(login)
        secret = own or self.url
        if secret is None:
            raise UsageError(
                "TIDEMILL_DATABASE_URL is not set", code=ErrorCode.NOT_SET, setting="TIDEMILL_DATABASE_URL"
            )
        return secret.get_secret_value()


class KafkaSettings(Group):
    """Kafka."""

    bootstrap: Servers | None = Field(None, description="bootstrap brokers, `HOST:PORT[,HOST:PORT...]`")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None = Field(
        None, description="required if a broker is not on this machine, `SASL_SSL` or `SSL` is recommended"
    )
    ca_file: FilePath | None = Field(
        None, description="certificates that may sign the brokers', as a PEM file; else the machine's own"
    )
    cert_file: FilePath | None = Field(None, description="client certificate for the brokers, as a PEM file")
    key_file: FilePath | None = Field(None, description="key of that certificate, as a PEM file")
    key_password: SecretStr | None = Field(None, description="password of that key")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="login mechanism"
    )
    sasl_user: str | None = Field(None, description="user to log in as")
    sasl_password: SecretStr | None = Field(None, description="password to log in with")
    session_s: float = Field(
        30.0, ge=6, le=300, description="seconds until other processes take over the lanes of a dead one"
    )

    @model_validator(mode="after")
    def _refuse_silent_plain_text(self) -> Self:
        local = all(
            is_local(server.rsplit(":", 1)[0]) for server in (self.bootstrap or "").split(",") if server
        )
        if not local and self.security_protocol is None:
            raise ValueError(
                "TIDEMILL_KAFKA_SECURITY_PROTOCOL: expected a value, since a broker is on another machine: "
                "SASL_SSL or SSL, or PLAINTEXT if the network between them is trusted"
            )
        if not local and self.security_protocol == "SASL_PLAINTEXT" and self.sasl_mechanism == "PLAIN":
            raise ValueError(
                "TIDEMILL_KAFKA_SECURITY_PROTOCOL: expected SASL_SSL, since PLAIN sends the password in plain text"
            )
        return self

    @model_validator(mode="after")
    def _demand_credentials(self) -> Self:
        sasl = (self.security_protocol or "").startswith("SASL")
        given = {"MECHANISM": self.sasl_mechanism, "USER": self.sasl_user, "PASSWORD": self.sasl_password}
        for name, value in given.items():
            if sasl and value is None:
                raise ValueError(
                    f"TIDEMILL_KAFKA_SASL_{name}: expected a value, as {self.security_protocol} logs in"
                )
            if not sasl and value is not None:
                raise ValueError(
                    f"TIDEMILL_KAFKA_SASL_{name}: expected TIDEMILL_KAFKA_SECURITY_PROTOCOL=SASL_SSL with it"
                )
        return self

    def servers(self) -> str:
        """Return the bootstrap brokers. Raises `UsageError` if none is set."""
        if self.bootstrap is None:
            raise UsageError(
                "TIDEMILL_KAFKA_BOOTSTRAP is not set",
                code=ErrorCode.NOT_SET,
                setting="TIDEMILL_KAFKA_BOOTSTRAP",
            )
        return self.bootstrap


class RegistrySettings(Group):
    """The schema registry, which is optional: without one, records carry the fingerprint of their schema."""

    url: HttpUrl | None = Field(
        None, description="address of the Confluent API; not set: Avro's single-object encoding"
    )
    user: str | None = Field(None, description="user to log in as")
    password: SecretStr | None = Field(None, description="password to log in with")
    ca_file: FilePath | None = Field(
        None,
        description="certificates that may sign the registry's, as a PEM file; else those of the package certifi",
    )

    @model_validator(mode="after")
    def _keep_passwords_private(self) -> Self:
        url = urlsplit(self.url or "")
        if self.password is not None and url.scheme == "http" and not is_local(url.hostname or ""):
            raise ValueError(
                "TIDEMILL_REGISTRY_URL: expected https://..., since a password is sent to another machine"
            )
        if (self.user is None) != (self.password is None):
            raise ValueError("TIDEMILL_REGISTRY_PASSWORD: expected together with TIDEMILL_REGISTRY_USER")
        return self


class TopicSettings(Group):
    """Topics, as `tidemill topics create` makes them."""

    prefix: TopicPrefix = Field("tidemill", description="first part of every name")
    partitions: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="lanes of an aggregate, instead of its context's own number; fixed once created"
    )
    replication: int = Field(1, ge=1, le=9, description="copies of a record; 3 in production")
    command_days: float = Field(
        7, gt=0, description="how long commands are kept; less than the duplicate horizon"
    )
    outcome_days: float = Field(7, gt=0, description="how long outcomes are kept")
    dead_letter_days: float = Field(30, gt=0, description="how long dead letters are kept")
    max_command_bytes: int = Field(
        262_144, ge=1_024, description="largest value of a command; below the largest event"
    )
    max_event_bytes: int = Field(1_048_576, ge=16_384, description="largest event record")

    @model_validator(mode="after")
    def _order_sizes(self) -> Self:
        if self.max_command_bytes >= self.max_event_bytes:
            raise ValueError(
                f"TIDEMILL_TOPICS_MAX_COMMAND_BYTES: expected less than {self.max_event_bytes}, the largest event"
            )
        return self


class CommandSettings(Group):
    """Consuming commands."""

    batch_size: int = Field(2_000, ge=1, le=50_000, description="most records of one transaction")
    workers: int = Field(
        4, ge=1, le=64, description="concurrent transactions of a process; a connection each"
    )
    horizon_days: int = Field(8, ge=1, le=365, description="how long a repeated command_id is found")
    newer_schema: Literal["wait", "park"] = Field(
        "wait",
        description="before a command of a registered schema that this version does not fully know, its lane waits for "
        "a process that does, or the command is parked at once",
    )
    newer_schema_wait_s: float = Field(
        900.0,
        gt=0,
        le=86_400,
        description="seconds that a lane waits for that in total; then the command is parked",
    )
    replies: Pattern = Field(
        "",
        description="regular expression of the allowed reply topics; empty: `PREFIX.replies.*`",
    )
    expiry_every_s: float = Field(
        10.0,
        gt=0,
        le=86_400,
        description="seconds between two looks for rows whose time is over, which are then removed; no reader is shown "
        "them in between",
    )
    superseded_every_s: float = Field(
        600.0,
        gt=0,
        le=86_400,
        description="seconds between two looks for rows of superseded revisions (points of series); "
        "no reader is shown them in between",
    )

    @property
    def newer_wait(self) -> timedelta:
        """Return how long a lane waits for a process that knows a newer schema; nothing if it does not wait."""
        return timedelta(seconds=self.newer_schema_wait_s if self.newer_schema == "wait" else 0.0)


class SecretSettings(Group):
    """Encrypting the secret fields of messages ([secrets](secrets.md))."""

    keys: SecretKeyList | None = Field(
        None,
        description="master keys, `NAME:KEY[,NAME:KEY...]`, made by `tidemill secrets new-key`: the first one wraps "
        "new keys of rows, the others only unwrap; the same for all processes that write or read secrets",
    )

    def master_keys(self) -> MasterKeys | None:
        """Return the master keys, None if none is set."""
        return None if self.keys is None else MasterKeys.parse(self.keys.get_secret_value())


class OutboxSettings(Group):
    """Publishing events and outcomes."""

    transactional: bool = Field(
        default=True,
        description="Kafka transactions: read_committed consumers see each event once. `false`: every publication, "
        "not only of single events, is just idempotent, some milliseconds faster; a replaced owner's repeats are "
        "dropped by `tm_sequence`, and where they end a topic its lane may halt with `TOPIC_BEHIND`",
    )

    compression: Codecs = Field(
        default="as-created",
        description="Compression of events and outcomes: `none`, `gzip`, `snappy`, `zstd`, or `as-created`: zstd where "
        "0.8.0 or a later version created the lanes, or else none. For single aggregates NAME=CODEC, separated by "
        "commas: `zstd, users=none`. Each subscriber must be able to read it",
    )

    def codec_of(self, aggregate: str) -> str:
        """Return how records of an aggregate are compressed: one of `CODECS`."""
        parts = [part.strip().rpartition("=") for part in self.compression.split(",")]
        named = {name: codec for name, _, codec in parts}
        return named.get(aggregate, named.get("", "as-created"))


class LakeSettings(Group):
    """The lake, where the copies of archived rows are stored."""

    root: LakeRoot | None = Field(
        None,
        description="folder or URL below which the archiver writes; an absolute path, `/...` or `s3://...`",
    )
    format: Literal["parquet", "iceberg"] = Field(
        "parquet", description="Parquet files in folders, or the same files in an Iceberg table each"
    )
    options: JsonObject | None = Field(None, description="fsspec's options for the root's storage, as JSON")
    catalog_url: SecretStr | None = Field(
        None,
        description="Iceberg: `postgresql://...` of a login that may write the catalog's schema alone, or the "
        "`https://...` of a REST catalog",
    )
    catalog_schema: str = Field(
        "tidemill_lake", description="Iceberg: the schema of a catalog in PostgreSQL, which must exist"
    )
    catalog_options: JsonObject | None = Field(
        None,
        description="Iceberg: pyiceberg's properties of the catalog, as JSON, such as a credential",
    )
    timeout_s: float = Field(
        1_800.0,
        gt=0,
        le=86_400,
        description="seconds that one read of copies may take before it is given up",
    )


class RetentionSettings(Group):
    """What leaves the database, and where copies are read back."""

    roots: str = Field(
        "",
        description="folders and URLs below which copies are read back, separated by spaces; empty: the lake's root",
    )
    every_s: float = Field(5.0, gt=0, le=3_600, description="pause between two rounds")
    as_of: AwareDatetime | None = Field(
        None, description="the time for computing ages, for a rehearsal; empty: now"
    )
    policies: Annotated[str, AfterValidator(policy_text)] = Field(
        "",
        description="JSON by table, instead of what contexts declare: `enabled`, `retention_period_days`, `quiet_s`, "
        "`late`, `most_seals`, `longest_seal_s`, `bytes_per_s`; the same for all processes",
    )
    max_bytes_per_second: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="the maximum rate of measuring, copying and reading back, in bytes in memory; a context may set "
        "for less",
    )


class ArchiverSettings(Group):
    """The reference archiver."""

    id: str = Field("", description="its id in its answers; empty: `archiver-HOST`")
    group: str = Field("", description="archivers of one group share the work; empty: `PREFIX.archivers`")
    max_bytes_per_second: Annotated[int, Field(ge=1)] | None = Field(
        None, description="its maximum rate of reading, in bytes in memory; a request may set less"
    )
    stall_s: float = Field(
        1_800.0, gt=0, le=86_400, description="seconds without progress after which a copy is given up"
    )


class HealthSettings(Group):
    """`/health` and `/metrics` of every process."""

    host: str = Field("127.0.0.1", description="address to listen at")
    port: int = Field(
        0, ge=0, le=65_535, description="port to listen at; 0: any free one, which the log names"
    )


class LogSettings(Group):
    """Logs go to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="minimum level")
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: for people on a terminal")
