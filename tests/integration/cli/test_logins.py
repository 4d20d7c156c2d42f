"""Logins of their own, each with no more than its role: migration, service, readers, archiver, retention."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.support.servers.databases import execute
from tests.support.servers.installation import Installation
from tests.support.waiting import eventually_blocking

PASSWORD = "l0gin-s3cr3t"
TABLE = "public.market_data"
REASON = ("--reason", "a lawsuit")


@pytest.fixture
def by_role(installation: Installation, unique_name: Callable[[str], str]) -> Iterator[Installation]:
    """Nothing but what the roles of the migrations grant; the superuser only migrates."""
    with (
        _login(installation, unique_name("service"), "tidemill_service") as service,
        _login(installation, unique_name("reader"), "tidemill_reader") as reader,
    ):
        environment = dict(installation.environment) | {
            "TIDEMILL_DATABASE_URL": service,
            "TIDEMILL_DATABASE_READER_URL": reader,
            "TIDEMILL_DATABASE_MIGRATION_URL": installation.database,
        }
        yield Installation(environment, installation.folder)


@pytest.fixture
def archiving(
    installation: Installation, by_role: Installation, unique_name: Callable[[str], str], tmp_path: Path
) -> Iterator[Installation]:
    """An archiver that only reads, and a login that may let rows go, beside them; and a lake."""
    with (
        _login(installation, unique_name("archiver"), "tidemill_archiver") as archiver,
        _login(installation, unique_name("keeper"), "tidemill_retention") as retention_login,
    ):
        environment = dict(by_role.environment) | {
            "TIDEMILL_DATABASE_ARCHIVER_URL": archiver,
            "TIDEMILL_DATABASE_RETENTION_URL": retention_login,
            "TIDEMILL_LAKE_ROOT": str(tmp_path / "lake"),
            "TIDEMILL_RETENTION_AS_OF": "2026-01-01T00:00:00Z",
            "TIDEMILL_RETENTION_EVERY_S": "0.3",
        }
        yield Installation(environment, by_role.folder)


@contextmanager
def _login(installation: Installation, name: str, role: str) -> Iterator[str]:
    execute(installation.database, f"create role \"{name}\" login password '{PASSWORD}' in role {role}")
    parts = urlsplit(installation.database)
    try:
        yield parts._replace(netloc=f"{name}:{PASSWORD}@{parts.hostname}:{parts.port}").geturl()
    finally:
        kick = f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{name}'"
        execute(installation.database, kick, f'drop owned by "{name}"', f'drop role "{name}"')


def test_each_verb_works_with_the_rights_of_its_role(by_role: Installation) -> None:
    by_role("schemas", "register")
    by_role("topics", "create")
    lines = "\n".join(
        json.dumps({"symbol": "AAPL", "time": "2013-02-01T00:00:00Z", "price": price, "source": "test"})
        for price in (1, 2, 3)
    )
    with by_role.serving() as serving:
        by_role("publish", "RecordMarketData", "-", "--wait", stdin=lines)
        assert by_role("audit", "--json").json()["balanced"] is True
        assert by_role("query", "latest-quotes", "--json").json()[0]["symbol"] == "AAPL"
        assert len(by_role("query", "market-data", "--json").json()) == 3
        for verb in (
            ["status"],
            ["lanes", "list"],
            ["lanes", "show", "1"],
            ["dead-letters", "list"],
            ["projections", "list"],
        ):
            by_role(*verb)
        by_role("projections", "verify", "latest-quotes")
        by_role("projections", "rebuild", "latest-quotes")
        assert by_role("query", "latest-quotes", "--json").json()[0]["version"] == 3, (
            "a rebuild keeps the grants"
        )
        by_role("publish", "RecordMarketData", "-", "--wait", stdin=lines.replace("AAPL", "IBM"))
        assert by_role("audit", "--json").json()["balanced"] is True
        assert serving.stop() == 0
        assert PASSWORD not in serving.log.read_text()


def test_the_archive_works_with_the_rights_of_its_roles(archiving: Installation) -> None:
    archiving("schemas", "register")
    archiving("topics", "create")
    days = ("2010-02-01", "2010-02-02", "2013-02-01", "2025-12-01")
    told = [
        json.dumps({"symbol": "A", "time": f"{day}T21:00:00Z", "price": 1, "source": "test"}) for day in days
    ]
    archiving("retention", "hold", TABLE, "--from", "2013-01-01", "--to", "2014-01-01", *REASON)
    with archiving.serving() as serving:
        archiving("publish", "RecordMarketData", "-", "--wait", stdin="\n".join(told))
        eventually_blocking(lambda: _slices(archiving) == {"dropped": 1}, what="one range to leave")
        assert serving.stop() == 0
        assert PASSWORD not in serving.log.read_text()
    for verb in (
        ["plan"],
        ["status"],
        ["why-not-dropped", TABLE, "2013-02-01"],
        ["scrub"],
        ["hold", "--list"],
    ):
        archiving("retention", *verb)
    archiving("retention", "restore", TABLE, "--from", "2010-01-01", "--to", "2010-10-01", "--yes")
    assert _slices(archiving) == {"restored": 1}
    archiving("retention", "release", TABLE, "--hold", "--from", "2013-01-01", "--to", "2014-01-01", *REASON)
    assert archiving("audit", "--json").json()["balanced"] is True


def test_only_the_login_of_retention_may_let_rows_go(archiving: Installation) -> None:
    for login in ("DATABASE_URL", "DATABASE_READER_URL", "DATABASE_ARCHIVER_URL"):
        url = archiving.environment[f"TIDEMILL_{login}"]
        for statement in (
            f"call tm.drop_slice('{TABLE}', now(), 1)",
            f"truncate {TABLE}",
            f"drop table {TABLE}",
            "update tm.archive set state = 'verified', verified = '{}'",
            "insert into tm.archive select * from tm.archive",
            "delete from tm.archive",
            "delete from tm.archive_hold",
            "insert into tm.archive_trail overriding system value select * from tm.archive_trail",
            "update tm_late.public__market_data set tm_generation = 1",
            "insert into tm_late.public__market_data (tm_generation) values (1)",
            "delete from tm_late.public__market_data",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                execute(url, statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        execute(archiving.environment["TIDEMILL_DATABASE_ARCHIVER_URL"], f"delete from {TABLE}")


def _slices(installation: Installation) -> dict[str, int]:
    (found,) = installation("status", "--json", expect=None).json()["archive"]
    return dict(found["slices"])


def test_the_service_cannot_migrate(by_role: Installation) -> None:
    without = dict(by_role.environment)
    del without["TIDEMILL_DATABASE_MIGRATION_URL"]
    told = Installation(without, by_role.folder)(
        "migrate", "--down", "market_data@base", "--yes", expect=None
    )
    assert told.code != 0
    assert PASSWORD not in told.err
    assert by_role("migrate", "--json").json() == []


def test_a_wrong_password_is_said_without_it(installation: Installation) -> None:
    parts = urlsplit(installation.database)
    wrong = parts._replace(netloc=f"nobody:{PASSWORD}@{parts.hostname}:{parts.port}").geturl()
    told = Installation(
        dict(installation.environment) | {"TIDEMILL_DATABASE_URL": wrong}, installation.folder
    )("status", expect=2)
    assert told.err.startswith("Error: the database refuses this login")
    assert PASSWORD not in told.err + told.out
