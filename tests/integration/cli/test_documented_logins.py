"""The logins of docs/operations.md, made by the SQL of the page, each with no more than the page gives it.

Roles belong to the server, which other tests share. Hence logins and database get names of their own, and the roles
that migrations grant to are there already: what the page says about those is compared apart.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.servers.databases import drop, execute, fetch
from tests.support.servers.installation import Installation, installation_on
from tests.support.waiting import eventually_blocking
from tidemill_devkit.stack import Stack

ROOT = Path(__file__).parents[3]
OWN_NAME = re.compile(r"\btidemill(?:_owner|_query|_keeper|_archive|_web)?\b")
MEMBERS = (
    "select m.member::regrole::text as member, m.roleid::regrole::text as role from pg_auth_members m"
    " where m.roleid::regrole::text like 'tidemill\\_%'"
)
TABLE = "public.market_data"


def _block(language: str) -> str:
    """The text of a block of the page's chapter about logins."""
    chapter = (ROOT / "docs/operations.md").read_text().split("\n## Logins\n")[1].split("\n## ")[0]
    found = re.search(rf"^```{language}\n(.*?)^```", chapter, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def _statements(sql: str) -> list[str]:
    return [each.strip() for each in re.sub(r"--.*", "", sql).split(";") if each.strip()]


@pytest.fixture
def documented(
    stack: Stack, database: str, topic_prefix: str, unique_name: Callable[[str], str], tmp_path: Path
) -> Iterator[Installation]:
    """An empty database of the page's owner, and the variables of the page; no superuser is among them.

    `database`: another one of the same server, whose migrations have made the roles that all share.
    """
    suffix = unique_name("").replace("-", "_")

    def renamed(text: str) -> str:
        return OWN_NAME.sub(lambda name: name[0] + suffix, text)

    logins = re.findall(r"create role (\w+) login", renamed(_block("sql")))
    try:
        for statement in _statements(_block("sql")):
            if not re.match(r"create role \w+ nologin", statement):
                execute(stack.database_url, renamed(statement))
        installation = installation_on(stack, "", topic_prefix, tmp_path)
        server = urlsplit(stack.database_url)
        urls = dict(line.split("=", 1) for line in _block("sh").splitlines())
        for name, url in urls.items():
            login = re.sub(r"//\w+|\w+$", lambda part: renamed(part[0]), url)
            urls[name] = login.replace("@db/", f"@{server.hostname}:{server.port}/")
        lake = {
            "TIDEMILL_LAKE_ROOT": str(tmp_path / "lake"),
            "TIDEMILL_RETENTION_AS_OF": "2026-01-01T00:00:00Z",
            "TIDEMILL_RETENTION_EVERY_S": "0.3",
        }
        yield Installation(dict(installation.environment) | urls | lake, tmp_path)
    finally:
        drop(stack.database_url, "tidemill" + suffix)
        execute(stack.database_url, *(f"drop role if exists {login}" for login in logins))


def test_the_owner_of_the_page_migrates_and_everybody_works(documented: Installation) -> None:
    owner = documented.environment["TIDEMILL_DATABASE_MIGRATION_URL"]
    (rights,) = fetch(
        owner, "select rolsuper or rolcreaterole as many from pg_roles where rolname = current_user"
    )
    assert rights["many"] is False
    applied = {step["revision"] for step in documented("migrate", "--json").json()}
    assert {"core_0001", "core_0002", "core_0003"} <= applied
    documented("schemas", "register")
    documented("topics", "create")
    with documented.serving() as serving:
        _publish(documented, "2010-02-01", "2025-12-01")
        eventually_blocking(lambda: _slices(documented) == {"dropped": 1}, what="one range to leave")
        documented("projections", "rebuild", "latest-quotes")
        documented("projections", "verify", "latest-quotes")
        _publish(documented, "2025-12-02")
        eventually_blocking(lambda: _version(documented) == 3, what="the rebuilt view to go on")
        assert documented("audit", "--json").json()["balanced"] is True
        assert serving.stop() == 0
    documented("retention", "restore", TABLE, "--from", "2010-01-01", "--to", "2010-10-01", "--yes")
    assert _slices(documented) == {"restored": 1}


def _publish(installation: Installation, *days: str) -> None:
    told = [
        json.dumps({"symbol": "A", "time": f"{day}T21:00:00Z", "price": 1, "source": "test"}) for day in days
    ]
    installation("publish", "RecordMarketData", "-", "--wait", stdin="\n".join(told))


def _version(installation: Installation) -> int:
    (found,) = installation("query", "latest-quotes", "--json").json()
    return int(found["version"])


def _slices(installation: Installation) -> dict[str, int]:
    (found,) = installation("status", "--json", expect=None).json()["archive"]
    return dict(found["slices"])


@pytest.mark.parametrize("where", ["docs/operations.md", "docker/initdb.sh"])
def test_the_roles_are_made_as_the_migrations_would(
    where: str, database: str, unique_name: Callable[[str], str]
) -> None:
    """A role that is there already is not made again, and who may not grant membership needs it to be there."""
    suffix = unique_name("").replace("-", "_")
    made = re.findall(r"^create role (\w+ nologin.*?);", (ROOT / where).read_text(), re.MULTILINE)
    roles = [each.split()[0] for each in made]
    try:
        execute(
            database,
            *(re.sub(r"tidemill_\w+", lambda name: name[0] + suffix, f"create role {each}") for each in made),
        )
        pairs = {(row["member"], row["role"]) for row in fetch(database, MEMBERS)}
    finally:
        execute(database, *(f"drop role if exists {role}{suffix}" for role in reversed(roles)))
    ours = {
        (member.removesuffix(suffix), role.removesuffix(suffix))
        for member, role in pairs
        if member.endswith(suffix)
    }
    theirs = {(member, role) for member, role in pairs if member in roles}
    assert len(roles) == 5
    assert ours == theirs != set()
