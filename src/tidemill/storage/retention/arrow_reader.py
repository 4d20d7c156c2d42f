"""Reads rows as Arrow batches, by ADBC: no value becomes a Python object. Synchronous."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as driver
import pyarrow as pa
from adbc_driver_postgresql import StatementOptions

from tidemill.domain.errors import ContractError, TidemillError, Unavailable
from tidemill.storage.database.errors import meaning, no_tls
from tidemill.storage.database.session_settings import SPELLING, libpq_options
from tidemill.storage.retention.digest_sql import pin_settings_sql

BATCH_BYTES: Final = 8 << 20
"""Compared with 32 MB: as fast, with half the time in the kernel, because freed memory is reused."""


_WRITES: Final = "25006"
_OF_TLS: Final = ("SSL error", "certificate")  # libpq has a message for it, but no code

# libpq's own deadlines: a server that stops answering is given up after half a minute.
_LIBPQ: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}
_SESSION: Final = {
    **SPELLING,
    "search_path": "pg_catalog,public",
    "statement_timeout": "60000",  # of the driver's own questions, until that of the copy is set
    "lock_timeout": "60000",
    "idle_in_transaction_session_timeout": "60000",
}


def read(
    dsn: str,
    read_sql: str,
    *,
    batch_bytes: int = BATCH_BYTES,
    timeout_s: float = 3600.0,
    application_name: str = "tidemill-archiver",
) -> Generator[pa.RecordBatch, None, None]:
    """Yield the rows of `read_sql` in batches of about `batch_bytes`, as one read-only snapshot sees them.

    Settings are pinned. Types are ADBC's: `lakehouse.arrow.conform` makes them the copy's. `timeout_s`: the whole
    statement must have been read by then. Close the iterator to release the connection early.

    Raises:
        Unavailable: the server is or became unavailable.
        ContractError: the statement would write, or the database is not encoded in UTF8.
        TidemillError: other errors of the server, as `storage.database.errors` translates them.
    """
    with (
        _translated(),
        closing(driver.connect(_with_parameters(dsn, application_name))) as connection,
        closing(connection.cursor()) as cursor,
    ):
        _begin(cursor, timeout_s)
        hint = {StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(batch_bytes)}
        cursor.adbc_statement.set_options(**hint)
        cursor.execute(read_sql)
        with cursor.fetch_record_batch() as reader:
            yield from reader


def _begin(cursor: Any, timeout_s: float) -> None:
    """Make the driver's implicit transaction one snapshot that cannot write, and fix how values read."""
    cursor.execute("set transaction isolation level repeatable read, read only")
    cursor.execute(f"set local statement_timeout to {int(timeout_s * 1000)}")
    cursor.execute(pin_settings_sql())
    cursor.fetchall()
    cursor.execute("select current_setting('server_encoding')")
    ((encoding,),) = cursor.fetchall()
    if encoding != "UTF8":
        raise ContractError(f"the database is encoded in {encoding}: rows are archived from UTF8 only")


def _with_parameters(dsn: str, application_name: str) -> str:
    """Add the deadlines that the address does not have, and what must hold whatever it has.

    A parameter of the address goes before libpq's variables (PGCLIENTENCODING, PGOPTIONS ...), and what a session
    begins with before the settings of database and login.
    """
    parts = urlsplit(dsn)
    given = dict(parse_qsl(parts.query))
    ours = {"client_encoding": "UTF8", "options": libpq_options(_SESSION, given.get("options", ""))}
    options = _LIBPQ | {"application_name": application_name} | given | ours
    return parts._replace(query=urlencode(options, quote_via=quote)).geturl()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except adbc_driver_manager.Error as error:
        raise _meaning(error) from error
    except (pa.ArrowException, OSError) as error:  # a stream that broke off half-way
        raise Unavailable("database", str(error)) from error


def _meaning(error: adbc_driver_manager.Error) -> TidemillError:
    if error.sqlstate is None:  # libpq did not get as far as a query
        text = str(error).strip()
        return no_tls(text) if any(word in text for word in _OF_TLS) else Unavailable("database", text)
    if error.sqlstate == _WRITES:  # this transaction is read-only: the server is not a standby
        return ContractError(f"the statement would write: {error}")
    return meaning(error.sqlstate, str(error))
