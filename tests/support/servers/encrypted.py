"""A Kafka and a PostgreSQL of the native way that let in only who speaks TLS, and logs in or shows a certificate."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it marks no export
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.support.servers.certificates import Authority, Certificate, new_authority
from tests.support.servers.databases import run_apart
from tests.support.servers.stack import Run
from tests.support.waiting import HANGING_S
from tidemill_devkit.stack import debian, native, postgres, state
from tidemill_devkit.stack.cache import cache_folder, locked
from tidemill_devkit.stack.install import install, require_prerequisites
from tidemill_devkit.stack.plan import PORTS, ServerPlan
from tidemill_devkit.stack.ports import free_ports
from tidemill_devkit.stack.progress import SilentProgress
from tidemill_devkit.stack.server import NativeServer

HOST = "localhost"
"""The only name that the servers' certificates name."""

UNNAMED_HOST = "127.0.0.1"
"""The same servers by an address that their certificates do not name."""

USER = "tidemill"
SENDER = "sender"
OUTSIDER = "stranger"
"""A user of Kafka without any right."""

KAFKA_PASSWORD = "c4n4ry-k4fk4"
DATABASE_PASSWORD = "c4n4ry-d4t4b4s3"

_LISTENERS = """
listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{tls}
advertised.listeners=PLAINTEXT://127.0.0.1:{kafka},SASL_SSL://{host}:{sasl},SSL://{host}:{tls}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
ssl.keystore.type=PEM
ssl.keystore.location={home}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={home}/ca.pem
listener.name.ssl.ssl.client.auth=required
listener.name.ssl.ssl.principal.mapping.rules=RULE:^CN=(.*)$/$1/
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{user}="{password}";
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
"""Behind devstack's own properties, and so in their place. The plain listener is the broker's own, and the tests'."""

_DATABASE_TLS = """
ssl = 'on'
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
ssl_ca_file = 'ca.pem'
"""
_WHO_MAY = """
hostssl all certified 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""


READ, WRITE, CREATE = AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE
DESCRIBE_CONFIGS = AclOperation.DESCRIBE_CONFIGS
Right = tuple[ResourceType, str, ResourcePatternType, Sequence[AclOperation]]
"""Of all topics, groups or transactional ids of that name, or whose names begin so, what one may do with them."""


def on_topic(name: str, *operations: AclOperation) -> Right:
    return ResourceType.TOPIC, name, ResourcePatternType.LITERAL, operations


def on_topics(beginning: str, *operations: AclOperation) -> Right:
    return ResourceType.TOPIC, beginning, ResourcePatternType.PREFIXED, operations


def on_group(name: str) -> Right:
    return ResourceType.GROUP, name, ResourcePatternType.LITERAL, (READ,)


def on_transactions(beginning: str) -> Right:
    return ResourceType.TRANSACTIONAL_ID, beginning, ResourcePatternType.PREFIXED, (WRITE,)


@dataclass(frozen=True)
class EncryptedServers:
    """Where they are, and what their clients need. `other`: an authority that signed nothing of theirs."""

    ports: Mapping[str, int]
    authority: Authority
    other: Authority
    server: Certificate
    client: Certificate

    @property
    def kafka(self) -> str:
        """The address of those who log in."""
        return f"{HOST}:{self.ports['sasl']}"

    @property
    def kafka_by_certificate(self) -> str:
        """The address of those who show a certificate instead."""
        return f"{HOST}:{self.ports['tls']}"

    @property
    def plain_kafka(self) -> str:
        """The address of the tests' administrator, which is neither encrypted nor limited."""
        return f"127.0.0.1:{self.ports['kafka']}"

    def database(self, user: str = "postgres", password: str = DATABASE_PASSWORD, host: str = HOST) -> str:
        """The URL of the server's first database."""
        return f"postgresql://{user}:{password}@{host}:{self.ports['postgres']}/postgres"

    def environment(self) -> dict[str, str]:
        """The settings of a deployment that is encrypted from end to end."""
        return {
            "TIDEMILL_DATABASE_URL": self.database(),
            "TIDEMILL_DATABASE_SSLMODE": "verify-full",
            "TIDEMILL_DATABASE_CA_FILE": str(self.authority.cert),
            "TIDEMILL_KAFKA_BOOTSTRAP": self.kafka,
            "TIDEMILL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "TIDEMILL_KAFKA_CA_FILE": str(self.authority.cert),
            "TIDEMILL_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "TIDEMILL_KAFKA_SASL_USER": USER,
            "TIDEMILL_KAFKA_SASL_PASSWORD": KAFKA_PASSWORD,
        }

    def allow(self, user: str, rights: Iterable[Right]) -> None:
        """Let a user of Kafka do what he may not do by himself, which is anything."""
        anywhere, allowed = "*", AclPermissionType.ALLOW
        bindings = [
            AclBinding(kind, name, pattern, f"User:{user}", anywhere, operation, allowed)
            for kind, name, pattern, operations in rights
            for operation in operations
        ]
        administrator = self._administrator()
        _wait_for(administrator.create_acls(bindings))

    async def add_login(self) -> None:
        """Make the login of the database that shows a certificate; it may do what it likes."""
        tls = ssl.create_default_context(cafile=self.authority.cert)
        connection = await asyncpg.connect(self.database(), ssl=tls, timeout=HANGING_S)
        await connection.execute("create role certified superuser login")
        await connection.close()

    def add_users(self) -> None:
        """Give the users of Kafka their passwords, as SCRAM keeps them."""
        how, password = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), KAFKA_PASSWORD.encode()
        wanted: list[Any] = [
            UserScramCredentialUpsertion(user, how, password) for user in (USER, SENDER, OUTSIDER)
        ]
        administrator = self._administrator()
        _wait_for(administrator.alter_user_scram_credentials(wanted))

    def _administrator(self) -> AdminClient:
        """Return a client that must be kept for as long as its answers are waited for."""
        return AdminClient({"bootstrap.servers": self.plain_kafka, "log_level": 0})


@contextmanager
def encrypted_servers(run: Run, folder: Path) -> Iterator[EncryptedServers]:
    """Start the two servers, which end with the block; `folder`: where certificates are made."""
    authority, other = new_authority(folder, "authority"), new_authority(folder, "another-authority")
    server, client = authority.sign("server", host=HOST), authority.sign("certified")
    with run.native_stack(f"{run.name}-{run.worker}-tls") as name:
        known = _new_state(name)
        made = EncryptedServers(known.ports, authority, other, server, client)
        _start(known, made)
        made.add_users()
        run_apart(made.add_login)
        yield made


def _new_state(name: str) -> state.StackState:
    """Write down a stack that devstack can take down again."""
    cache, names = cache_folder(), (*PORTS, "sasl", "tls")
    require_prerequisites(cache)
    with locked("ports", cache=cache):
        chosen = free_ports(len(names), taken=state.ports_of_others(name, cache))
        known = state.StackState(
            name=name,
            checkout=str(state.checkout_folder()),
            origin="native",
            ports=dict(zip(names, chosen, strict=True)),
            password=DATABASE_PASSWORD,
            generation=uuid4().hex,
            brief=True,
        )
        state.save(known, state.stack_folder(name, cache))
    return known


def _start(known: state.StackState, made: EncryptedServers) -> None:
    handles = native.servers(known, cache_folder())
    changed = [_kafka(handles["kafka"], made), _database(handles["postgres"], made)]
    with ThreadPoolExecutor(len(changed)) as pool:
        list(pool.map(_install_and_start, changed))


def _install_and_start(server: NativeServer) -> None:
    install(server.name, cache_folder(), SilentProgress())
    server.start()


def _kafka(handle: NativeServer, made: EncryptedServers) -> NativeServer:
    home = handle.plan.home
    own = {"user": USER, "password": KAFKA_PASSWORD, "host": HOST, "home": home}

    def initialise(log: Path) -> None:
        handle.plan.initialise(log)
        shutil.copy(made.authority.cert, home / "ca.pem")
        (home / "server.pem").write_text(made.server.both())
        with (home / "server.properties").open("a") as properties:
            properties.write(_LISTENERS.format(**own, **made.ports))

    return _with(handle, initialise)


def _database(handle: NativeServer, made: EncryptedServers) -> NativeServer:
    cache, data = cache_folder(), handle.plan.home / "data"
    programs = postgres.from_host(cache) or postgres.from_debian(debian.PART.folder(cache))
    files = {"server.pem": made.server.cert, "server.key": made.server.key, "ca.pem": made.authority.cert}

    def initialise(log: Path) -> None:
        handle.plan.initialise(log)
        (data / "pg_hba.conf").write_text(_WHO_MAY)
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(_DATABASE_TLS)
        for name, file in files.items():
            shutil.copy(file, data / name)
            (data / name).chmod(0o600)
            programs.own(data / name)

    return _with(handle, initialise)


def _with(handle: NativeServer, initialise: Callable[[Path], None]) -> NativeServer:
    plan: ServerPlan = replace(handle.plan, initialise=initialise)
    return replace(handle, plan=plan)


def _wait_for(answers: Mapping[Any, Any]) -> None:
    for answer in answers.values():
        answer.result(10)
