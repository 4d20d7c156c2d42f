"""A command's way over TLS from end to end, with logins, certificates and ACLs; and what is said if they are wrong.

The servers let in nobody who does not speak TLS, so whatever works here is encrypted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.servers.encrypted import (
    CREATE,
    DATABASE_PASSWORD,
    DESCRIBE_CONFIGS,
    HOST,
    KAFKA_PASSWORD,
    OUTSIDER,
    READ,
    SENDER,
    UNNAMED_HOST,
    WRITE,
    EncryptedServers,
    Right,
    encrypted_servers,
    on_group,
    on_topic,
    on_topics,
    on_transactions,
)
from tests.support.servers.https_registry import https_registry
from tests.support.servers.installation import Installation, Said
from tests.support.servers.stack import Run
from tests.support.waiting import eventually_blocking
from tidemill.app.connections import kafka_connection, libpq_url
from tidemill.catalog.topics import TopicOptions, plan_replies
from tidemill.domain.archive.messages import archival_topics
from tidemill.domain.errors import TidemillError, Unavailable, UsageError
from tidemill.domain.lane import StreamTopics
from tidemill.storage.retention.chunk_reader import DatabaseChunks
from tidemill.transport.kafka.catalog.topics import Topics

pytestmark = pytest.mark.native

PREFIX = "encrypted"
DATABASE, KAFKA, REGISTRY = "TIDEMILL_DATABASE_", "TIDEMILL_KAFKA_", "TIDEMILL_REGISTRY_"
WRONG_PASSWORD = "wr0ng-p4ssw0rd"
LOGIN = ("SASL_MECHANISM", "SASL_USER", "SASL_PASSWORD")
TICK = json.dumps({"symbol": "AAPL", "time": "2013-02-01T00:00:00Z", "price": 1, "source": "test"})
OVER_TLS = "select ssl as encrypted, client_dn as shown from pg_stat_ssl where pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def servers(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EncryptedServers]:
    with encrypted_servers(run, tmp_path_factory.mktemp("certificates")) as servers:
        yield servers


@pytest.fixture(scope="module")
def encrypted(servers: EncryptedServers, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Prepared over TLS by what a deployment sets; its principal may do what the runbook says, and nothing else."""
    own = {"TIDEMILL_TOPICS_PREFIX": PREFIX, "TIDEMILL_TOPICS_PARTITIONS": "1", "COLUMNS": "200"}
    installation = Installation(servers.environment() | own, tmp_path_factory.mktemp("encrypted"))
    servers.allow("tidemill", [*rights_of_the_service(), *rights_of_topics_create()])
    servers.allow(SENDER, rights_of_a_sender())
    installation("migrate")
    installation("topics", "create")
    return installation


def rights_of_the_service() -> Iterator[Right]:
    """What docs/operations.md lists."""
    streams = [StreamTopics.of(name, prefix=PREFIX) for name in ("market-data", "connector-profiles")]
    for topics in (*streams, archival_topics(prefix=PREFIX)):
        yield on_topic(topics.commands, READ)
        yield on_group(topics.commands)
        for ours in (topics.events, topics.outcomes, topics.dead_letters):
            yield on_topic(ours, READ, WRITE)
        yield on_transactions(topics.events)


def rights_of_topics_create() -> Iterator[Right]:
    yield on_topic(f"{PREFIX}.replies.http", READ, WRITE)
    yield on_topics(f"{PREFIX}.", CREATE, DESCRIBE_CONFIGS)


def rights_of_a_sender() -> Iterator[Right]:
    topics = StreamTopics.of("market-data", prefix=PREFIX)
    yield on_topic(topics.commands, WRITE)
    yield on_topic(topics.outcomes, READ)


def changed(installation: Installation, *without: str, **variables: str) -> Installation:
    """The same with other settings: `without` some, with others in their place."""
    kept = {name: value for name, value in installation.environment.items() if name not in without}
    return Installation(kept | variables, installation.folder)


def kafka(installation: Installation, *without: str, **variables: str) -> Installation:
    """The same with other settings of Kafka, named without their beginning."""
    named = {KAFKA + name: value for name, value in variables.items()}
    return changed(installation, *(KAFKA + name for name in without), **named)


def database(installation: Installation, *without: str, **variables: str) -> Installation:
    """The same with other settings of the database, named without their beginning."""
    named = {DATABASE + name: value for name, value in variables.items()}
    return changed(installation, *(DATABASE + name for name in without), **named)


def refused(installation: Installation, *verb: str, stdin: str = "") -> Said:
    """Call a verb that cannot work: it ends by itself, and what it says holds no secret and is no traceback."""
    told = installation(*verb, stdin=stdin, expect=None)
    assert told.code in (1, 2), told.out + told.err
    for secret in (DATABASE_PASSWORD, KAFKA_PASSWORD, WRONG_PASSWORD, "Traceback"):
        assert secret not in told.out + told.err
    return told


# --- what works ------------------------------------------------------------------------------------------------------


def test_a_command_is_applied_told_and_seen(encrypted: Installation) -> None:
    sender = kafka(encrypted, SASL_USER=SENDER)
    with encrypted.serving() as serving:
        assert "applied" in sender("publish", "RecordMarketData", "-", "--wait", stdin=TICK).out
        (event,) = encrypted("tail", "market-data", "--from-beginning", "--no-follow", "--json").json_lines()
        assert event["value"]["symbol"] == "AAPL"
        assert encrypted("status", "--json").json()["trouble"] is None
        code, health = serving.health()
        assert code == 200, health
        assert health["dependencies"]["kafka"]["ok"]
        assert health["dependencies"]["database"]["ok"]
        assert serving.stop() == 0
        said = serving.log.read_text()
    assert KAFKA_PASSWORD not in said
    assert DATABASE_PASSWORD not in said
    assert encrypted("topics", "check").out == "Every topic is as it should be.\n"


def test_a_login_may_be_plain_or_a_certificate_take_its_place(
    encrypted: Installation, servers: EncryptedServers
) -> None:
    plain = kafka(encrypted, SASL_MECHANISM="PLAIN")
    assert plain("topics", "check").code == 0
    shown = kafka(
        encrypted,
        *LOGIN,
        BOOTSTRAP=servers.kafka_by_certificate,
        SECURITY_PROTOCOL="SSL",
        CERT_FILE=str(servers.client.cert),
        KEY_FILE=str(servers.client.key),
    )
    servers.allow("certified", [on_topics(f"{PREFIX}.", READ, DESCRIBE_CONFIGS)])
    assert shown("topics", "check").code == 0


def test_the_database_takes_a_certificate_for_a_password(
    encrypted: Installation, servers: EncryptedServers
) -> None:
    shown = database(
        encrypted,
        URL=servers.database("certified", password="unused"),
        CERT_FILE=str(servers.client.cert),
        KEY_FILE=str(servers.client.key),
    )
    assert shown("lanes", "list", "--json").json()
    assert over_libpq(shown) == {"encrypted": True, "shown": "/CN=certified"}


def over_libpq(installation: Installation) -> dict[str, object]:
    """What the archiver's driver is told, which is another one than the rest of the program has."""
    reader = DatabaseChunks(libpq_url(installation.settings().database, "archiver"))
    (batch,) = reader.read(OVER_TLS)
    rows: list[dict[str, object]] = batch.to_pylist()
    return rows[0]


def test_archivers_read_over_tls(encrypted: Installation, servers: EncryptedServers) -> None:
    assert over_libpq(encrypted) == {"encrypted": True, "shown": None}
    for wrong in (
        database(encrypted, CA_FILE=str(servers.other.cert)),
        database(encrypted, URL=servers.database(host=UNNAMED_HOST)),
    ):
        with pytest.raises(Unavailable, match="TIDEMILL_DATABASE_CA_FILE"):
            over_libpq(wrong)


def test_without_an_authority_of_its_own_the_machines_are_asked(
    encrypted: Installation, servers: EncryptedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = database(kafka(encrypted, "CA_FILE"), "CA_FILE")
    assert "certificate verify failed" in refused(here, "status").err
    with pytest.raises(TidemillError, match="certificate verify failed"):
        over_libpq(here)
    monkeypatch.setenv("SSL_CERT_FILE", str(servers.authority.cert))  # OpenSSL's own way to name them
    assert here("lanes", "list").code == 0
    assert over_libpq(here)["encrypted"]


# --- Kafka, refused --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Settings that are wrong, and what a verb then says."""

    wrong: Installation
    said: tuple[str, ...]


def faults_of_kafka(well: Installation, servers: EncryptedServers) -> dict[str, Fault]:
    refused = ("refuses the login", f"{KAFKA}SASL_USER", f"{KAFKA}SASL_PASSWORD")
    plain, unnamed = servers.plain_kafka, servers.kafka.replace(HOST, UNNAMED_HOST)
    protocol = f"{KAFKA}SECURITY_PROTOCOL"
    return {
        "password": Fault(kafka(well, SASL_PASSWORD=WRONG_PASSWORD), refused),
        "password, plain": Fault(kafka(well, SASL_MECHANISM="PLAIN", SASL_PASSWORD=WRONG_PASSWORD), refused),
        "mechanism": Fault(
            kafka(well, SASL_MECHANISM="SCRAM-SHA-256"),
            ("offers no login by SCRAM-SHA-256", f"{KAFKA}SASL_MECHANISM"),
        ),
        "authority": Fault(
            kafka(well, CA_FILE=str(servers.other.cert)),
            ("certificate that is not accepted", f"{KAFKA}CA_FILE"),
        ),
        "host": Fault(kafka(well, BOOTSTRAP=unnamed), ("certificate of another host", f"{KAFKA}BOOTSTRAP")),
        "plain text": Fault(
            kafka(well, *LOGIN, "CA_FILE", SECURITY_PROTOCOL="PLAINTEXT"),
            ("does not use PLAINTEXT", protocol),
        ),
        "no login": Fault(kafka(well, *LOGIN, SECURITY_PROTOCOL="SSL"), ("does not use SSL", protocol)),
        "no certificate": Fault(
            kafka(well, *LOGIN, SECURITY_PROTOCOL="SSL", BOOTSTRAP=servers.kafka_by_certificate),
            ("requires a client certificate", f"{KAFKA}CERT_FILE"),
        ),
        "tls on a plain port": Fault(kafka(well, BOOTSTRAP=plain), (protocol,)),
    }


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "password, plain",
        "mechanism",
        "authority",
        "host",
        "plain text",
        "no login",
        "no certificate",
        "tls on a plain port",
    ],
)
def test_what_a_broker_objects_to_is_said_with_the_variable(
    encrypted: Installation, servers: EncryptedServers, name: str
) -> None:
    fault = faults_of_kafka(encrypted, servers)[name]
    told = refused(fault.wrong, "topics", "check")
    assert told.err.startswith("Error: kafka is not available: looking at topics: ")
    assert [words for words in fault.said if words not in told.err] == []
    assert "check that it runs" not in told.err, "it does"


@pytest.mark.parametrize(
    "verb",
    [
        ("topics", "create"),
        ("publish", "RecordMarketData", "-"),
        ("publish", "RecordMarketData", "-", "--wait"),
        ("tail", "market-data", "--no-follow"),
        ("status",),
        ("audit",),
    ],
    ids=" ".join,
)
def test_every_verb_that_needs_kafka_says_so(encrypted: Installation, verb: tuple[str, ...]) -> None:
    wrong = kafka(encrypted, SASL_PASSWORD=WRONG_PASSWORD)
    assert f"see {KAFKA}SASL_USER" in refused(wrong, *verb, stdin=TICK).err


def test_a_process_says_so_too_and_waits_for_somebody_to_mend_it(encrypted: Installation) -> None:
    with encrypted.starting("commands", TIDEMILL_KAFKA_SASL_PASSWORD=WRONG_PASSWORD) as serving:
        eventually_blocking(lambda: serving.address, what="an address")
        told = eventually_blocking(
            lambda: serving.health()[1]["dependencies"]["kafka"].get("error", "").partition("refuses")[2],
            what="the reason in /health",
        )
        assert f"see {KAFKA}SASL_USER" in told
        assert serving.health()[0] == 503
        assert serving.stop() == 0
        assert WRONG_PASSWORD not in serving.log.read_text()


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (("topics", "create"), "the right to create it is missing"),
        (
            ("tail", "market-data", "--no-follow"),
            "a topic that Tidemill's principal may not describe is invisible to it",
        ),
        (("publish", "RecordMarketData", "-"), "or Tidemill's principal may not describe it"),
        (("status",), "or Tidemill's principal may not describe them: see `tidemill topics check`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_who_may_do_nothing_is_told_what_is_missing(
    encrypted: Installation, verb: tuple[str, ...], said: str
) -> None:
    told = refused(kafka(encrypted, SASL_USER=OUTSIDER), *verb, stdin=TICK)
    assert said in told.err
    assert "check that it runs" not in told.err


def test_who_may_only_send_cannot_write_events(encrypted: Installation) -> None:
    """The stream is ours alone: what a sender may do is what the runbook would let him."""
    told = refused(kafka(encrypted, SASL_USER=SENDER), "topics", "create")
    assert "the right to create it is missing" in told.err


def test_a_hidden_topic_is_explained(encrypted: Installation, servers: EncryptedServers) -> None:
    servers.allow(OUTSIDER, [on_topics("hidden.", CREATE)])
    outsider = kafka(encrypted, SASL_USER=OUTSIDER).settings()
    plan = plan_replies("hidden.replies.http", TopicOptions())
    with pytest.raises(
        UsageError, match=r"^hidden\.replies\.http: created, and hidden .* grant Describe on it"
    ):
        asyncio.run(Topics(kafka_connection(outsider)).create([plan]))


# --- PostgreSQL, refused ---------------------------------------------------------------------------------------------


def faults_of_the_database(well: Installation, servers: EncryptedServers) -> dict[str, Fault]:
    bare, unnamed = servers.database("certified"), servers.database(host=UNNAMED_HOST)
    wrong = servers.database(password=WRONG_PASSWORD)
    return {
        "password": Fault(database(well, URL=wrong), ("password authentication failed", f"{DATABASE}URL")),
        "authority": Fault(
            database(well, CA_FILE=str(servers.other.cert)),
            ("certificate verify failed", f"{DATABASE}CA_FILE"),
        ),
        "host": Fault(database(well, URL=unnamed), ("not valid for '127.0.0.1'", f"{DATABASE}URL")),
        "plain text": Fault(
            database(well, "CA_FILE", SSLMODE="disable"), ("no encryption", f"{DATABASE}SSLMODE")
        ),
        "no certificate": Fault(
            database(well, URL=bare), ("requires a valid client certificate", f"{DATABASE}CERT_FILE")
        ),
    }


@pytest.mark.parametrize("name", ["password", "authority", "host", "plain text", "no certificate"])
@pytest.mark.parametrize("verb", [("migrate",), ("status",)], ids=" ".join)
def test_what_the_database_objects_to_is_said_with_the_variable(
    encrypted: Installation, servers: EncryptedServers, name: str, verb: tuple[str, ...]
) -> None:
    fault = faults_of_the_database(encrypted, servers)[name]
    told = refused(fault.wrong, *verb)
    assert [words for words in fault.said if words not in told.err] == []
    assert "check that it runs" not in told.err


def test_less_than_verify_full_asks_for_less(encrypted: Installation, servers: EncryptedServers) -> None:
    unnamed, other_ca = servers.database(host=UNNAMED_HOST), str(servers.other.cert)
    assert database(encrypted, URL=unnamed, SSLMODE="verify-ca")("lanes", "list").code == 0
    assert database(encrypted, URL=unnamed, SSLMODE="require", CA_FILE=other_ca)("lanes", "list").code == 0
    wrong = database(encrypted, SSLMODE="verify-ca", CA_FILE=other_ca)
    assert f"{DATABASE}CA_FILE" in refused(wrong, "lanes", "list").err


# --- the registry ----------------------------------------------------------------------------------------------------


def test_schemas_are_registered_over_https(
    encrypted: Installation, servers: EncryptedServers, tmp_path: Path
) -> None:
    with https_registry(servers.server, "tidemill", KAFKA_PASSWORD) as port:
        well = changed(
            encrypted,
            TIDEMILL_REGISTRY_URL=f"https://{HOST}:{port}",
            TIDEMILL_REGISTRY_USER="tidemill",
            TIDEMILL_REGISTRY_PASSWORD=KAFKA_PASSWORD,
            TIDEMILL_REGISTRY_CA_FILE=str(servers.authority.cert),
        )
        assert well("schemas", "register").code == 0
        for name, value, said in (
            ("PASSWORD", WRONG_PASSWORD, f"{REGISTRY}PASSWORD"),
            ("CA_FILE", str(servers.other.cert), f"{REGISTRY}CA_FILE"),
            ("CA_FILE", str(servers.client.key), f"{REGISTRY}CA_FILE"),
            ("URL", f"https://{UNNAMED_HOST}:{port}", f"{REGISTRY}URL"),
        ):
            told = refused(changed(well, **{REGISTRY + name: value}), "schemas", "register")
            assert said in told.err
            assert "check that it runs" not in told.err
