"""What the settings say reaches the drivers, secrets and TLS included."""

import ssl
import subprocess
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import SecretStr

from tidemill.app.connections import database_tls, kafka_connection, libpq_url, open_registry
from tidemill.app.settings_source import configuration
from tidemill.domain.errors import UsageError
from tidemill.settings import Settings
from tidemill_devkit import stack as devstack
from tidemill_devkit.stack import ServerStatus

PASSWORD = "c4n4ry-s3cr3t"


def settings(**groups: dict[str, Any]) -> Settings:
    return Settings.model_validate(groups)


def test_what_libpq_gets_says_how_to_encrypt(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    url = f"postgresql://a:{PASSWORD}@db.example.com/x?application_name=y"
    chosen = settings(database={"archiver_url": url, "sslmode": "verify-full", "ca_file": ca})
    given = urlsplit(libpq_url(chosen.database, "archiver"))
    assert given.netloc == f"a:{PASSWORD}@db.example.com"
    assert dict(parse_qsl(given.query)) == {
        "application_name": "y",
        "sslmode": "verify-full",
        "sslrootcert": str(ca),
    }
    local = settings(database={"url": "postgresql://a@localhost/x"})
    assert libpq_url(local.database, "archiver") == "postgresql://a@localhost/x"


def test_kafka_gets_all_of_its_group(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    chosen = settings(
        kafka={
            "bootstrap": "kafka:9093",
            "security_protocol": "SASL_SSL",
            "ca_file": ca,
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_user": "tidemill",
            "sasl_password": PASSWORD,
        }
    )
    connection = kafka_connection(chosen, "here")
    assert (connection.bootstrap, connection.client_id) == ("kafka:9093", "here")
    assert (connection.security_protocol, connection.ca_file) == ("SASL_SSL", ca)
    assert (connection.sasl_user, connection.sasl_password) == ("tidemill", SecretStr(PASSWORD))
    assert PASSWORD not in repr(connection)


def test_a_local_broker_needs_nothing_more() -> None:
    assert kafka_connection(settings(kafka={"bootstrap": "127.0.0.1:9092"})).security_protocol == "PLAINTEXT"


def test_the_database_is_verified_as_the_settings_say() -> None:
    remote = {"url": "postgresql://u@db.example.com/x"}
    assert database_tls(settings(database=remote | {"sslmode": "disable"}).database) is False
    full = database_tls(settings(database=remote | {"sslmode": "verify-full"}).database)
    assert isinstance(full, ssl.SSLContext)
    assert full.check_hostname
    assert full.verify_mode is ssl.CERT_REQUIRED
    local = settings(database={"url": "postgresql://u@localhost/x?sslmode=require"})
    assert database_tls(local.database) is None, "then the URL says it"


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("not a certificate")
    chosen = settings(
        database={"url": "postgresql://u@db.example.com/x", "sslmode": "verify-full", "ca_file": wrong}
    )
    with pytest.raises(UsageError, match="TLS files cannot be used"):
        database_tls(chosen.database)


def test_without_an_authority_libpq_asks_the_machines_as_the_other_driver_does() -> None:
    remote = {"url": "postgresql://u@db.example.com/x", "sslmode": "verify-full"}
    given = urlsplit(libpq_url(settings(database=remote).database, "archiver"))
    assert dict(parse_qsl(given.query)) == {"sslmode": "verify-full", "sslrootcert": "system"}


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-subj",
        "/CN=us",
        "-passout",
        f"pass:{PASSWORD}",
    ]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    files = {"sslmode": "verify-full", "cert_file": cert, "key_file": key}
    chosen = settings(database={"url": "postgresql://u@db.example.com/x"} | files)
    with pytest.raises(UsageError, match="TLS files cannot be used"):
        database_tls(chosen.database)


async def test_certificates_of_the_registry_that_are_none_are_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("not a certificate")
    chosen = settings(registry={"url": "https://registry.example.com", "ca_file": wrong})
    async with AsyncExitStack() as shared:
        with pytest.raises(UsageError, match="TIDEMILL_REGISTRY_CA_FILE"):
            open_registry(shared, chosen)


async def test_without_an_address_there_is_no_registry() -> None:
    async with AsyncExitStack() as shared:
        assert open_registry(shared, settings()) is None


def test_servers_that_are_given_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.delenv("TIDEMILL_DATABASE_URL", raising=False)
    chosen = configuration()
    assert chosen.kafka.servers() == "127.0.0.1:1"
    with pytest.raises(UsageError, match="TIDEMILL_DATABASE_URL is not set"):
        chosen.database.dsn()


def test_the_servers_of_this_checkout_are_used_where_none_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP", "REGISTRY_URL"):
        monkeypatch.delenv(f"TIDEMILL_{name}", raising=False)
    stack = devstack.Stack(
        "dev", "native", "", "postgresql://u@127.0.0.1:5/postgres", "127.0.0.1:6", "http://127.0.0.1:7/api"
    )
    servers = [ServerStatus(name, "up", None) for name in ("postgres", "kafka", "registry")]
    found = devstack.StackStatus("dev", "native", "", tuple(servers), stack, None)
    monkeypatch.setattr(devstack, "status", lambda: found)
    chosen = configuration()
    assert chosen.database.dsn() == "postgresql://u@127.0.0.1:5/postgres"
    assert chosen.kafka.servers() == "127.0.0.1:6"
    assert chosen.registry.url == "http://127.0.0.1:7/api"
    down = ServerStatus("postgres", "down", None)
    monkeypatch.setattr(devstack, "status", lambda: replace(found, servers=(down, *servers[1:])))
    with pytest.raises(UsageError, match="start servers with `tidemill dev up`"):
        configuration().kafka.servers()
