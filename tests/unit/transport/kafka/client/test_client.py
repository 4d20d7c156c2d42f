"""Settings of the client: what is passed on, what is refused, what stays secret, what nobody can switch off."""

from __future__ import annotations

import inspect
import os
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka.producer import sender
from pydantic import SecretStr

from tests.architecture import tree
from tidemill.domain.errors import UsageError
from tidemill.transport.kafka.client import client
from tidemill.transport.kafka.client.client import KafkaConnection, patch_client

CANARY = "c4n4ry-s3cr3t"
PLAIN = KafkaConnection(bootstrap="one:9092,two:9092")
LOGGED_IN = KafkaConnection(
    bootstrap="one:9092",
    security_protocol="SASL_SSL",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_user="relay",
    sasl_password=SecretStr(CANARY),
)


def test_a_plain_connection_sends_neither_login_nor_certificate() -> None:
    options = PLAIN.options()
    assert options["bootstrap_servers"] == ["one:9092", "two:9092"]
    assert options["security_protocol"] == "PLAINTEXT"
    assert options["metadata_max_age_ms"] == 30_000
    assert not [name for name in options if name.startswith(("sasl", "ssl"))]


def test_a_login_is_passed_on_and_never_shown() -> None:
    options = LOGGED_IN.options()
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["sasl_plain_username"] == "relay"
    assert options["sasl_plain_password"] == CANARY
    assert CANARY not in repr(LOGGED_IN) + str(LOGGED_IN)


def test_an_encrypted_connection_demands_a_certificate_of_that_host() -> None:
    context = LOGGED_IN.options()["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname is True
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"security_protocol": "SASL_SSL"}, id="no login"),
        pytest.param(
            {"security_protocol": "SASL_SSL", "sasl_user": "u", "sasl_mechanism": "PLAIN"}, id="half a login"
        ),
        pytest.param({"sasl_user": "u"}, id="a user that is not sent"),
        pytest.param({"sasl_password": SecretStr(CANARY)}, id="a password that is not sent"),
        pytest.param({"ca_file": Path("ca.pem")}, id="a certificate that is not used"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        KafkaConnection(bootstrap="one:9092", **settings)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match="certificate"):
        KafkaConnection(bootstrap="one:9092", security_protocol="SSL", ca_file=file).options()


def make_certificate(folder: Path, password: str | None = None) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    protection = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=relay", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", cert, *protection], check=True, capture_output=True)
    return cert, key


def test_a_client_certificate_is_loaded_with_its_key(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, CANARY)
    connection = KafkaConnection(
        bootstrap="one:9092",
        security_protocol="SSL",
        ca_file=cert,
        cert_file=cert,
        key_file=key,
        key_password=SecretStr(CANARY),
    )
    context = connection.options()["ssl_context"]
    assert len(context.get_ca_certs()) == 1
    assert connection.options()["ssl_context"] is context, "64 lanes read it once"
    os.utime(cert, ns=(1, 1))
    assert connection.options()["ssl_context"] is not context, "a renewed certificate is taken up"
    for wrong in (None, SecretStr("another")):
        with pytest.raises(UsageError):
            replace(connection, key_password=wrong).options()


async def test_every_consumer_reads_committed_records_from_where_it_is_told_to() -> None:
    for consumer in (client.group_consumer(PLAIN, group="g"), client.manual_consumer(PLAIN)):
        assert consumer._isolation_level == "read_committed"
        assert consumer._auto_offset_reset == "none"
        assert consumer._enable_auto_commit is False
        assert consumer._check_crcs is True
        assert consumer._group_instance_id is None
        await consumer.stop()


async def test_every_producer_waits_for_all_replicas() -> None:
    transactional = client.transactional_producer(
        PLAIN, transactional_id="t", transaction_timeout_ms=30_000, batch_bytes=1_000
    )
    idempotent = client.idempotent_producer(PLAIN, batch_bytes=1_000)
    for producer in (transactional, idempotent, client.expiring_producer(PLAIN)):
        assert producer._sender._acks == -1
        assert producer.client._metadata_max_age_ms >= 240_000, (
            "an idle one would list all topics again and again"
        )
        await producer.stop()
    assert transactional._txn_manager is not None
    assert idempotent._txn_manager is not None


def test_the_client_still_has_the_wait_that_is_shortened() -> None:
    source = Path(inspect.getfile(sender)).read_text()
    assert "BACKOFF_OVERRIDE = 0.02" in source
    assert "return BACKOFF_OVERRIDE" in source
    patch_client()
    assert sender.BACKOFF_OVERRIDE < 0.01


def test_nobody_else_makes_a_client() -> None:
    makers = [
        f"{path}:{line}: {name}"
        for path in tree.python_files("src")
        if not path.match("transport/kafka/client/client.py")
        for name, line in tree.dotted_names(path)
        if name.startswith("aiokafka") and name.endswith(("Consumer", "Producer", "Client"))
    ]
    assert makers == []
