"""Signing in on real servers: who is let in, who is not, and that nothing of a password stays behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from tests.support.clients.clients import Client
from tests.support.engine.secret_contexts import NEW, OLD
from tests.support.servers.installation import Installation, Said
from tests.support.waiting import eventually_blocking
from tidemill.api import hash_password

PEARS, PLUMS = "pears 7391", "plums 2846"
TABLES = (
    "select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname <> 'pg_catalog'"
)


def with_settings(installation: Installation, **settings: str) -> Installation:
    return replace(installation, environment={**installation.environment, **settings})


@pytest.fixture
def keyed(installation: Installation) -> Installation:
    """An installation of users, with a master key."""
    chosen = with_settings(installation, TIDEMILL_CONTEXTS="users", TIDEMILL_SECRET_KEYS=OLD.setting)
    chosen("schemas", "register")
    chosen("topics", "create")
    return chosen


def publish(installation: Installation, verb: str, key: str, **fields: Any) -> None:
    line = json.dumps({"command_id": str(uuid4()), "user_id": key, **fields})
    installation("publish", f"{verb}User", "-", "--wait", stdin=line)


def create(installation: Installation, key: str, hashed: str, **fields: Any) -> None:
    fields = {"username": key, "email": f"{key}@example.com", "hashed_password": hashed, **fields}
    publish(installation, "Create", key, **fields)


def sign_in(installation: Installation, name: str, password: str) -> str | None:
    """Return the key of the account that was let in, None if it was refused."""
    said = installation("verify-password", "users", name, "--json", stdin=f"{password}\n", expect=None)
    answer = said.json()
    assert (answer["outcome"], said.code, said.err) == (
        ("refused", 1, "") if answer["key"] is None else ("accepted", 0, "")
    )
    key: str | None = answer["key"]
    return key


def tables_with(installation: Installation, text: str) -> Iterator[str]:
    """The tables, chunks of hypertables too, of which a row has the text, also in its bytes."""
    for row in installation.fetch(TABLES):
        holds = "position($1 in t::text) > 0 or position($2 in t::text) > 0"
        query = f"select count(*) as rows from {row['name']} t where {holds}"
        if installation.fetch(query, text, text.encode().hex())[0]["rows"]:
            yield row["name"]


def topics_with(installation: Installation, text: str) -> set[str]:
    """The topics of users of which a record has the text."""
    client = Client(installation.environment["TIDEMILL_KAFKA_BOOTSTRAP"])
    return {
        role
        for role in ("commands", "events", "outcomes")
        for record in client.read(f"{installation.prefix}.users.{role}.v1")
        if text.encode() in (record.value or b"")
    }


def events(installation: Installation) -> int:
    """Return how many events of users are published."""
    return len(installation("tail", "users", "--from-beginning", "--no-follow").out.splitlines())


def test_the_right_password_is_accepted_and_every_other_attempt_is_refused(keyed: Installation) -> None:
    pears, plums = hash_password(PEARS), hash_password(PLUMS)
    with keyed.serving() as serving:
        create(keyed, "u1", pears, username="Ann", email="ann@example.com")
        create(keyed, "u2", plums, username="ben", is_active=False)
        create(keyed, "u3", pears, username="eve")
        publish(keyed, "Delete", "u3")
        assert [sign_in(keyed, name, PEARS) for name in ("Ann", "aNN")] == ["u1", "u1"]
        assert sign_in(keyed, "Ann", PLUMS) is None, "a wrong password"
        assert sign_in(keyed, "Ann", "") is None, "no password"
        assert sign_in(keyed, "nobody", PEARS) is None, "an unknown name"
        assert sign_in(keyed, "ann@example.com", PEARS) is None, "an address is not the name"
        assert sign_in(keyed, "ben", PLUMS) is None, "an account that is not active"
        assert sign_in(keyed, "eve", PEARS) is None, "a deleted account"
        publish(keyed, "Update", "u2", is_active=True)
        assert sign_in(keyed, "ben", PLUMS) == "u2"
        eventually_blocking(lambda: events(keyed) == 5, what="all events")
        assert serving.stop() == 0
    for text in (PEARS, PLUMS, pears, plums):
        assert list(tables_with(keyed, text)) == []
    assert list(tables_with(keyed, "ann@example.com")) != [], "what is no secret is there to be seen"
    assert [topics_with(keyed, text) for text in (PEARS, pears)] == [set(), {"commands"}]
    assert topics_with(keyed, "ann@example.com") == {"commands", "events"}
    keyed("secrets", "erase", "users", "u1", "--yes")
    assert sign_in(keyed, "Ann", PEARS) is None, "its secrets were erased"
    assert sign_in(keyed, "ben", PLUMS) == "u2"


def refusal(installation: Installation, collection: str = "users", *, code: int = 1) -> Said:
    said = installation("verify-password", collection, "nobody", "--json", stdin=PEARS, expect=code)
    assert said.out == ""
    return said


def test_what_stands_in_the_way_is_said_with_the_next_step(keyed: Installation) -> None:
    unkeyed = replace(
        keyed, environment={k: v for k, v in keyed.environment.items() if k != "TIDEMILL_SECRET_KEYS"}
    )
    missing = refusal(unkeyed).err
    assert "Error: SECRET_KEYS_MISSING: TIDEMILL_SECRET_KEYS is not set" in missing
    assert "Add the master keys to TIDEMILL_SECRET_KEYS" in missing
    unknown = refusal(keyed, "people", code=2).err
    assert "there is no collection 'people' that anybody signs in with: choose one of users" in unknown
    others = with_settings(keyed, TIDEMILL_CONTEXTS="market_data,connector_profiles")
    assert "TIDEMILL_CONTEXTS chooses the contexts" in refusal(others, "connector-profiles", code=2).err
    with keyed.serving():
        create(keyed, "u1", hash_password(PEARS), username="nobody")
    other_key = with_settings(keyed, TIDEMILL_SECRET_KEYS=NEW.setting)
    assert "master key old is not set" in refusal(other_key).err
    keyed.execute("alter table public.users rename column username_folded to renamed")
    assert "TABLE_MISFIT" in refusal(keyed).err
