"""Secrets on real servers: who reads tables and event topics finds no value, whoever has the keys opens it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from tests.support.clients.clients import Client
from tests.support.engine.secret_contexts import BOTH, NEW, NEW_ONLY, OLD, OLD_ONLY
from tests.support.servers.installation import Installation
from tests.support.waiting import eventually_blocking
from tidemill.domain.errors import SecretUnreadable
from tidemill.security.master_keys import MasterKeys
from tidemill.security.reader import KeyedSecretReader
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.security.secret_keys import SecretKeyDatabase

pytestmark = pytest.mark.slow

CANARY = "c4n4ry-t0k3n"
TABLES = """
select format('%I.%I', schemaname, tablename) as name from pg_tables
where schemaname not in ('pg_catalog', 'information_schema') and schemaname not like '\\_timescaledb%'
"""


def with_keys(installation: Installation, *keys: Any) -> Installation:
    setting = ",".join(key.setting for key in keys)
    return replace(installation, environment={**installation.environment, "TIDEMILL_SECRET_KEYS": setting})


@pytest.fixture
def keyed(prepared: Installation) -> Installation:
    """An installation with the old master key."""
    return with_keys(prepared, OLD)


def profile(number: int, password: str, **more: Any) -> str:
    data = json.dumps({"host": f"host-{number}", "auth": {"password": password}})
    fields = {"profile_id": f"p{number}", "name": f"n{number}", "profile_data": data}
    return json.dumps({"command_id": str(uuid4()), **fields, **more})


def publish(installation: Installation, *lines: str, command: str = "RegisterConnectorProfile") -> None:
    installation("publish", command, "-", "--wait", stdin="\n".join(lines))


def password(installation: Installation, number: int, masters: MasterKeys) -> str:
    """Return the password of a profile's row, by these master keys."""
    (one,) = passwords(installation, [number], masters)
    return one


def passwords(installation: Installation, numbers: Sequence[int], masters: MasterKeys) -> list[str]:
    """Return the passwords of rows, by these master keys."""
    text = "select profile_data::text as data from public.connector_profiles where id = $1"
    rows = {f"p{number}": installation.fetch(text, f"p{number}")[0]["data"] for number in numbers}

    async def opened() -> list[str]:
        pool = await create_pool(installation.database, application_name="tidemill-tests", size=1)
        try:
            reader = KeyedSecretReader(SecretKeyDatabase(pool), masters)
            table, column = "connector_profiles", "profile_data"
            return [await reader.open_members(table, key, column, data) for key, data in rows.items()]
        finally:
            await close_pool(pool)

    return [str(json.loads(data)["auth"]["password"]) for data in asyncio.run(opened())]


def tables_with(installation: Installation, text: str) -> Iterator[str]:
    """The tables of which a row has the text, also in its bytes."""
    for row in installation.fetch(TABLES):
        holds = "position($1 in t::text) > 0 or position($2 in t::text) > 0"
        query = f"select count(*) as rows from {row['name']} t where {holds}"
        if installation.fetch(query, text, text.encode().hex())[0]["rows"]:
            yield row["name"]


def topics_with(installation: Installation, text: str) -> set[str]:
    """The topics of connector profiles of which a record has the text."""
    client = Client(installation.environment["TIDEMILL_KAFKA_BOOTSTRAP"])
    named = {
        role: f"{installation.prefix}.connector-profiles.{role}.v1"
        for role in ("commands", "events", "outcomes")
    }
    return {
        role
        for role, topic in named.items()
        for record in client.read(topic)
        if text.encode() in (record.value or b"")
    }


def events(installation: Installation) -> int:
    """Return how many events of profiles are published."""
    shown = installation("tail", "connector-profiles", "--from-beginning", "--no-follow").out
    return len(shown.splitlines())


def standing(serving: Any) -> dict[str, Any]:
    """What the stream of profiles says of itself while it waits for keys; empty while it does not."""
    service = serving.health()[1]["services"].get("connector-profiles", {})
    return service if str(service.get("code", "")).startswith("SECRET_") else {}


def test_a_credential_is_in_no_table_and_in_no_event_and_is_gone_once_it_is_erased(
    keyed: Installation,
) -> None:
    with keyed.serving() as serving:
        publish(keyed, profile(1, CANARY), profile(2, CANARY))
        eventually_blocking(lambda: events(keyed) == 2, what="both events")
        assert serving.stop() == 0
    assert list(tables_with(keyed, CANARY)) == []
    assert list(tables_with(keyed, "host-1")) != [], "what is no secret is there to be seen"
    assert topics_with(keyed, CANARY) == {"commands"}
    assert topics_with(keyed, "host-1") == {"commands", "events"}
    assert password(keyed, 1, OLD_ONLY) == CANARY
    counted = keyed("secrets", "status", "--json").json()
    assert counted["masters"] == [{"name": "old", "standing": "wraps", "keys": 2}]
    refused = keyed("secrets", "erase", "connector-profiles", "p1", stdin="n\n", expect=1)
    assert "Erase the secrets of connector-profiles 'p1' permanently?" in refused.out + refused.err
    assert "1 keys of p1 are erased." in keyed("secrets", "erase", "connector-profiles", "p1", "--yes").out
    with pytest.raises(SecretUnreadable, match="SECRET_ERASED"):
        password(keyed, 1, OLD_ONLY)
    assert password(keyed, 2, OLD_ONLY) == CANARY


def test_keys_rotate_under_load_and_the_old_one_is_not_needed_any_more(keyed: Installation) -> None:
    first = range(40)
    with keyed.serving():
        publish(keyed, *(profile(number, f"s{number}") for number in first))
    both = with_keys(keyed, NEW, OLD)
    with both.serving() as serving:
        lines = both.folder / "more.jsonl"
        lines.write_text("\n".join(profile(number, f"s{number}") for number in range(40, 400)))
        changes = both.folder / "changes.jsonl"
        changed = (profile(number, f"t{number}", name=f"m{number}") for number in first)
        changes.write_text("\n".join(changed))
        with (
            both.calling("publish", "RegisterConnectorProfile", lines, "--wait") as more,
            both.calling("publish", "UpdateConnectorProfile", changes, "--wait") as updates,
        ):
            rotated = both("secrets", "rotate", "--json").json()
            assert (more.process.wait(), updates.process.wait()) == (0, 0)
        again = both("secrets", "rotate", "--json").json()
        assert rotated["rewrapped"] + again["rewrapped"] == 40
        assert rotated["unreadable"] == again["unreadable"] == {}
        assert rotated["removed"] + again["removed"] == ["old"]
        assert serving.stop() == 0
    new = with_keys(keyed, NEW)
    assert new("secrets", "status", "--json").json()["unreadable"] == 0
    assert passwords(new, first, NEW_ONLY) == [f"t{number}" for number in first]
    assert password(new, 399, NEW_ONLY) == "s399"
    with new.serving() as serving:
        publish(new, profile(7, "u7", name="m7"), command="UpdateConnectorProfile")
        assert standing(serving) == {}
    assert password(new, 7, NEW_ONLY) == "u7"


def test_a_process_without_the_key_leaves_the_stream_to_others_and_serves_the_rest(
    keyed: Installation, prepared: Installation
) -> None:
    with keyed.serving():
        publish(keyed, profile(1, CANARY))
    with prepared.serving() as serving:
        reason = eventually_blocking(lambda: standing(serving), what="the stream to wait for its keys")
        assert reason["code"] == "SECRET_KEYS_MISSING"
        assert "the database has secrets that need old" in reason["reason"]
        assert serving.health()[0] == 200
        tick = {"symbol": "IBM", "time": "2013-02-01T00:00:00Z", "price": 1, "source": "test"}
        publish(prepared, json.dumps(tick), command="RecordMarketData")
        prepared("publish", "RegisterConnectorProfile", "-", stdin=profile(2, CANARY))
        assert serving.stop() == 0
    assert "1 keys cannot be unwrapped here" in prepared("secrets", "status", expect=1).out
    with keyed.serving():
        there = lambda: keyed.fetch("select from public.connector_profiles where id = 'p2'")
        eventually_blocking(there, what="the command that waited")
    assert list(tables_with(keyed, CANARY)) == []


def test_a_wrong_key_is_named_and_a_lost_one_is_given_up(keyed: Installation, prepared: Installation) -> None:
    with keyed.serving():
        publish(keyed, profile(1, CANARY))
    impostor = replace(OLD, secret=NEW.secret)
    with with_keys(prepared, impostor).serving() as serving:
        reason = eventually_blocking(lambda: standing(serving), what="the wrong key to be seen")
        assert reason["code"] == "SECRET_KEY_WRONG"
        assert serving.stop() == 0
    new = with_keys(prepared, NEW)
    assert "old is given up; 1 keys of rows are erased." in new("secrets", "forget", "old", "--yes").out
    with new.serving():
        publish(new, profile(1, "fresh", name="m"), command="UpdateConnectorProfile")
    assert password(new, 1, BOTH) == "fresh"


def test_without_keys_profiles_stay_in_clear_and_a_later_key_encrypts_what_changes(
    prepared: Installation,
) -> None:
    with prepared.serving() as serving:
        publish(prepared, profile(1, CANARY), profile(2, CANARY))
        warned = [line for line in serving.lines() if line.get("event") == "secrets_in_clear"]
        assert [line["aggregate"] for line in warned] == ["connector-profiles"]
        assert serving.stop() == 0
    keyed = with_keys(prepared, OLD)
    with keyed.serving():
        publish(keyed, profile(1, CANARY, name="m1"), command="UpdateConnectorProfile")
    assert [password(keyed, number, OLD_ONLY) for number in (1, 2)] == [CANARY, CANARY]
    encrypted = "select id from public.connector_profiles where profile_data::text like '%tms1:%'"
    assert [row["id"] for row in keyed.fetch(encrypted)] == ["p1"]


def test_a_new_key_is_printed_for_the_settings_and_nothing_else(prepared: Installation) -> None:
    printed = prepared("secrets", "new-key", "2026").out
    assert MasterKeys.parse(printed.strip()).names == ("2026",)
    assert prepared("secrets", "new-key", "Not A Name", expect=2).err.count("cannot name a key") == 1
    assert "No master key is set or in use" in prepared("secrets", "status").err
    assert "SECRET_KEYS_MISSING" in prepared("secrets", "rotate", expect=1).err
