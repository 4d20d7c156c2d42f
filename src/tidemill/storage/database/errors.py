"""From asyncpg's exceptions to the domain's: the only place that interprets SQLSTATEs.

    the server is unavailable, shutting down or full (class 08, 53, 57P, 58, broken sockets, deadlines) -> Unavailable
    another session interfered (40001, 40P01, 55P03, 57014, a frozen chunk), or a server fault -> TransientError
    a value was refused (class 22, 23, 44, 54, a trigger's P0, the few of class 42 that values cause) -> DataError
    TLS cannot be agreed on (Python's own errors, none of which is the server's) -> Unavailable
    the address, login, database or a privilege is wrong (28, 3D, 42501)  -> UsageError
    a table, column or routine is not what this version expects (the rest of 42, 3F, 0A)  -> NotAsExpected
    the driver remembers an old form of a table (an old plan, a COPY in old types) -> OutOfDate

Of a context's own tables 42501 and a `ContractError` are a `TableMisfit` (`on_tables`): only what works with those
waits.

An unknown error is transient: the lane pauses, visibly, and no record is rejected by mistake. The session may be
at fault, so it is left (see `sessions`), as after `Unavailable`.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import (
    ContractError,
    DataError,
    GenerationClosed,
    TableMisfit,
    TidemillError,
    TransientError,
    Unavailable,
    UsageError,
)

DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    OverflowError,  # COPY raises the encoder's own error for a value that does not fit
    UnicodeError,
)


class SessionDoubted(TransientError):
    """An unexpected error of the server in this session: the next attempt is made in a new one."""


class OutOfDate(SessionDoubted):
    """The driver's information about a table is out of date: a new session reads it again."""


class NotAsExpected(ContractError):
    """A statement names something that the database lacks or has in another form. `what`: the server's message.

    Whether a migration is missing is not known here: a service has checked at its start that none is.
    """

    kind = ErrorCode.DATABASE_DIFFERS

    def __init__(self, what: str) -> None:
        super().__init__(f"the database is not what this version expects: {what}", what=what)
        self.what = what


_GENERATION_NOT_OPEN: Final = "TM001"  # raised by tm.roll_generation
_UNENCODABLE: Final = "22000"  # the client refused a value before the server could

_NOT_SUPPORTED: Final = "0A000"
_FROZEN: Final = "frozen chunk"

_NOT_LET_IN: Final = "28000"
_NO_TLS_THERE: Final = "rejected SSL upgrade"

_MALFORMED: Final = (
    "08P01"  # as an error, not the end of the session: a value was sent in another type's form
)
_OTHER_FORM: Final = "22P03"  # likewise

_IN_THE_WAY: Final = ("40", "55", "57014", "TM")
_AWAY: Final = ("08", "53", "58", "57P", "25006")
_REFUSED: Final = ("22", "23", "44", "54", "P0", "42804", "42846")
_NO_RIGHT: Final = "42501"
_NOT_ALLOWED: Final = ("28", "3D", _NO_RIGHT)
_NOT_AS_EXPECTED: Final = ("42", "3F", "0A")


def translate(error: BaseException) -> TidemillError:
    """Return what a driver's exception (one of `DRIVER_ERRORS`) means to the domain, to be raised `from` it."""
    if isinstance(error, asyncpg.PostgresError):
        return _of_the_server(error)
    if isinstance(error, asyncpg.OutdatedSchemaCacheError):
        return OutOfDate(_text(error))
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return only_reads()
    if isinstance(error, asyncpg.ClientConfigurationError):
        return UsageError(
            f"invalid database URL: {_text(error)}",
            code=ErrorCode.LOGIN_REFUSED,
            settings="TIDEMILL_DATABASE_URL",
        )
    if isinstance(error, ssl.SSLError):  # before ValueError, which a certificate that is not accepted is too
        return no_tls(_text(error))
    if isinstance(error, ConnectionError) and _NO_TLS_THERE in str(error):
        return Unavailable(
            "database", f"{error}: it speaks no TLS; see TIDEMILL_DATABASE_SSLMODE", advised=True
        )
    if isinstance(
        error, (ValueError, OverflowError)
    ):  # asyncpg's own error for an argument is a ValueError too
        return DataError(_UNENCODABLE, _text(error))
    # What is left is a broken connection, or our own deadline. A connection that ends while it is used also shows as an
    # internal error of the client.
    return Unavailable("database", _text(error))


def _of_the_server(error: asyncpg.PostgresError) -> TidemillError:
    if _refuses_settings(error):
        return UsageError(
            f"the database refuses a setting of the session: {error.sqlstate}: {_text(error)}",
            code=ErrorCode.LOGIN_REFUSED,
            settings="the parameters in TIDEMILL_DATABASE_URL, and PGOPTIONS",
        )
    return OutOfDate(_text(error)) if _is_out_of_date(error) else meaning(error.sqlstate or "", _text(error))


def only_reads() -> Unavailable:
    """Return the error for a read-only server."""
    return Unavailable(
        "database", "it takes no writes: it is a standby, or default_transaction_read_only is on there"
    )


def no_tls(text: str) -> Unavailable:
    """Return the error for a reachable server that TLS does not trust; `text`: OpenSSL's message."""
    return Unavailable(
        "database",
        f"{text}: TIDEMILL_DATABASE_CA_FILE must hold the signer of its certificate, which must name the host in "
        "TIDEMILL_DATABASE_URL; TIDEMILL_DATABASE_CERT_FILE is the client's",
        advised=True,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Raise what a driver raises inside the block as the domain's errors; everything else passes."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translate(error) from error


@contextmanager
def on_tables() -> Iterator[None]:
    """Around statements on a context's tables: a misfit of one does not affect the others.

    Raises `TableMisfit` for it; everything else passes, also refused values.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        if error.sqlstate == _NO_RIGHT or isinstance(translate(error), ContractError):
            raise TableMisfit(f"{error.sqlstate}: {_text(error)}") from error
        raise


def meaning(state: str, text: str) -> TidemillError:
    """Return the domain's error for an SQLSTATE; `text` is the server's message."""
    if state == _GENERATION_NOT_OPEN:
        return GenerationClosed(text)
    if state == _NOT_SUPPORTED and _FROZEN in text:
        return TransientError(f"{text}: it is sealed, or was frozen by hand; try again when it is unfrozen")
    if state.startswith(_AWAY):
        return Unavailable("database", f"{state}: {text}")
    if state.startswith(_REFUSED):
        return DataError(state, text)
    if state.startswith(_NOT_ALLOWED):
        # by pg_hba.conf, which may require TLS, or a client certificate
        tls = ", TIDEMILL_DATABASE_SSLMODE and TIDEMILL_DATABASE_CERT_FILE" if state == _NOT_LET_IN else ""
        return UsageError(
            f"the database refuses this login: {state}: {text}",
            code=ErrorCode.LOGIN_REFUSED,
            settings=f"TIDEMILL_DATABASE_URL and its role{tls}",
        )
    if state.startswith(_NOT_AS_EXPECTED):
        return NotAsExpected(f"{state}: {text}")
    if state.startswith(_IN_THE_WAY):
        return TransientError(f"{state}: {text}")
    return SessionDoubted(f"{state}: {text}")


def _refuses_settings(error: asyncpg.PostgresError) -> bool:
    """Whether a session did not start because a requested setting or value does not exist."""
    return error.severity_en == "FATAL" and (error.sqlstate or "").startswith(("22", "42704"))


def _is_out_of_date(error: asyncpg.PostgresError) -> bool:
    """Whether a table changed under a statement, or under a binary COPY whose columns the driver knew from before."""
    if error.sqlstate == _MALFORMED:
        return error.severity_en == "ERROR"  # a pooler without a server reports this too, and disconnects
    return error.sqlstate == _OTHER_FORM or isinstance(error, asyncpg.InvalidCachedStatementError)


def _text(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    detail = getattr(error, "detail", None)
    return f"{text} ({detail})" if detail else text
