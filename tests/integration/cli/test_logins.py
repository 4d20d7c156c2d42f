"""Three logins, each with no more than its role: migration, service, readers."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.support.databases import execute
from tests.support.installation import Installation

PASSWORD = "l0gin-s3cr3t"


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
