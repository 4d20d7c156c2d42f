"""What a driver raises becomes what the engine acts on."""

import ssl

import asyncpg
import pytest

from tidemill.domain.errors import (
    DataError,
    GenerationClosed,
    TidemillError,
    TransientError,
    Unavailable,
    UsageError,
)
from tidemill.storage.database.errors import NotAsExpected, OutOfDate, SessionDoubted, translate, translated


def _server_error(state: str, detail: str = "") -> asyncpg.PostgresError:
    error = asyncpg.PostgresError.new({"C": state, "M": "it happened", "D": detail})
    assert isinstance(error, asyncpg.PostgresError)
    return error


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        *((state, Unavailable) for state in ("08006", "53300", "53100", "57P01", "57P03", "58030", "25006")),
        *((state, TransientError) for state in ("40001", "40P01", "55P03", "57014", "TM005")),
        *((state, SessionDoubted) for state in ("XX000", "25P03", "26000")),
        ("22P03", OutOfDate),
        *((state, DataError) for state in ("22021", "22P02", "23505", "23514", "54000", "P0001", "42804")),
        *((state, UsageError) for state in ("28P01", "3D000", "42501")),
        *((state, NotAsExpected) for state in ("42P01", "42703", "3F000", "0A000")),
        ("TM001", GenerationClosed),
    ],
)
def test_each_sqlstate_has_one_meaning(state: str, kind: type[TidemillError]) -> None:
    assert type(translate(_server_error(state))) is kind


def test_a_frozen_chunk_is_somebody_in_the_way_and_no_reason_to_migrate() -> None:
    error = asyncpg.PostgresError.new(
        {"C": "0A000", "M": 'cannot INSERT into frozen chunk "_hyper_1_1_chunk"'}
    )
    found = translate(error)
    assert type(found) is TransientError
    assert "_hyper_1_1_chunk" in str(found)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionResetError("gone"), Unavailable),
        (TimeoutError(), Unavailable),
        (asyncpg.InterfaceError("connection is closed"), Unavailable),
        (asyncpg.ConnectionDoesNotExistError("closed in the middle"), Unavailable),
        (asyncpg.ClientConfigurationError("no port"), UsageError),
        (OverflowError("value out of int16 range"), DataError),
        ("\ud800", DataError),
        (asyncpg.InternalClientError("cannot switch to state 15"), Unavailable),
        (asyncpg.TargetServerAttributeNotMatched("none of the hosts"), Unavailable),
        (asyncpg.OutdatedSchemaCacheError("unexpected data type"), OutOfDate),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), Unavailable),
        (ssl.SSLError(1, "wrong version number"), Unavailable),
    ],
)
def test_each_error_of_the_client_has_one_meaning(error: Exception | str, kind: type[TidemillError]) -> None:
    if isinstance(error, str):
        with pytest.raises(UnicodeEncodeError) as caught:
            error.encode()
        error = caught.value
    assert type(translate(error)) is kind


@pytest.mark.parametrize(("severity", "kind"), [("ERROR", OutOfDate), ("FATAL", Unavailable)])
def test_a_malformed_message_is_ours_unless_it_ends_the_session(
    severity: str, kind: type[TidemillError]
) -> None:
    error = asyncpg.PostgresError.new({"C": "08P01", "V": severity, "M": "insufficient data left in message"})
    assert type(translate(error)) is kind


def test_a_plan_of_before_is_no_reason_to_migrate() -> None:
    error = asyncpg.PostgresError.new(
        {"C": "0A000", "M": "cached plan must not change result type", "R": "RevalidateCachedQuery"}
    )
    found = translate(error)
    assert type(found) is OutOfDate
    assert "migrate" not in str(found)


def test_what_a_service_lacks_is_not_said_to_be_a_migration_since_nobody_knows() -> None:
    told = str(translate(_server_error("42P01")))
    assert "run `tidemill migrate`" not in told
    assert "`tidemill migrate --status` shows whether a migration is missing" in told


@pytest.mark.parametrize("state", ["42704", "22023"])
def test_a_setting_that_the_server_does_not_know_is_a_matter_of_the_address(state: str) -> None:
    """The session does not begin; the same codes of a statement are its own."""
    error = asyncpg.PostgresError.new(
        {"C": state, "V": "FATAL", "M": 'unrecognized configuration parameter "connect_timeout"'}
    )
    found = translate(error)
    assert type(found) is UsageError
    assert "TIDEMILL_DATABASE_URL" in str(found)
    assert "migrate" not in str(found)
    assert type(translate(_server_error(state))) is not UsageError


def test_a_certificate_that_is_not_accepted_is_no_value_that_was_refused() -> None:
    """It is a ValueError as well, and a command would be rejected because the server's certificate has expired."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired")
    assert isinstance(error, ValueError)
    found = translate(error)
    assert isinstance(found, Unavailable)
    assert found.advised
    assert "TIDEMILL_DATABASE_CA_FILE" in str(found)


def test_who_is_not_let_in_without_tls_is_told_the_variable() -> None:
    assert "TIDEMILL_DATABASE_SSLMODE" in str(translate(_server_error("28000")))
    assert "TIDEMILL_DATABASE_SSLMODE" not in str(translate(_server_error("28P01"))), "a wrong password"
    found = translate(ConnectionError('PostgreSQL server at "db:5432" rejected SSL upgrade'))
    assert isinstance(found, Unavailable)
    assert "it speaks no TLS; see TIDEMILL_DATABASE_SSLMODE" in str(found)


def test_an_empty_message_and_a_detail_still_tell_something() -> None:
    assert str(translate(TimeoutError())) == "database is not available: TimeoutError"
    error = _server_error("23505", "Key (id)=(1) already exists.")
    assert "already exists" in str(translate(error))


def test_only_the_drivers_errors_are_translated() -> None:
    with pytest.raises(Unavailable) as caught, translated():
        raise ConnectionRefusedError
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    with pytest.raises(KeyError), translated():
        raise KeyError("ours")
