"""Secret fields in the decide path: the rule sees the value, all that is made of its events has the ciphertext."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.fakes.codecs import JsonCodec
from tests.fakes.commands import MemoryCommandStore
from tests.fakes.secrets import MemoryDataKeys, MemorySecretKeys
from tests.support.engine.any_commands import cut
from tests.support.engine.commands import Harness, Topic, codes, outcomes
from tests.support.engine.secret_contexts import (
    BOTH,
    HOUSES,
    NEW_ONLY,
    OLD_ONLY,
    STREAM,
    door,
    house,
    room,
    settings,
)
from tidemill.commands.handlers import handlers_of
from tidemill.commands.secret_events import RowKeys
from tidemill.domain.errors import MasterKeyMissing
from tidemill.domain.secrets import SealedText
from tidemill.domain.stream import Stream
from tidemill.security.master_keys import MasterKeys
from tidemill.security.reader import KeyedSecretReader

CANARY = "c4n4ry-4711"
ONE_LANE = replace(STREAM, partitions=1)


def harness_of(store: MemoryCommandStore, masters: MasterKeys = OLD_ONLY, stream: Any = STREAM) -> Harness:
    return Harness(stream, store, row_keys=RowKeys(masters, MemoryDataKeys))


@pytest.fixture
def store() -> MemoryCommandStore:
    return MemoryCommandStore(STREAM)


@pytest.fixture
async def harness(store: MemoryCommandStore) -> Harness:
    made = harness_of(store)
    await made.claim()
    return made


def row(store: MemoryCommandStore, key: str = "d1") -> Any:
    return store.tables.states["doors"][key]


async def clear(store: MemoryCommandStore, key: str = "d1", masters: MasterKeys = BOTH) -> tuple[str, Any]:
    reader, held = KeyedSecretReader(MemorySecretKeys(store), masters), row(store, key)
    code = await reader.open("doors", key, "code", held.code)
    text = held.settings and await reader.open_members("doors", key, "settings", held.settings)
    return code, text and json.loads(text)


async def test_no_table_holds_the_value_and_the_reader_has_it(
    store: MemoryCommandStore, harness: Harness
) -> None:
    hidden = settings(password=CANARY, oauth={"token": f"t-{CANARY}"}, host="h1")
    done = await harness.send(door("Create", "d1", name="gate", code=CANARY, settings=hidden))
    assert outcomes(done) == {"applied": 1}
    assert CANARY not in repr(store.tables)
    assert "h1" in repr(store.tables)
    assert await clear(store) == (CANARY, json.loads(hidden))


async def test_row_and_event_have_the_same_ciphertext(store: MemoryCommandStore, harness: Harness) -> None:
    await harness.send(door("Create", "d1", name="gate", code=CANARY))
    (event,) = [json.loads(each.payload or b"") for each in store.tables.outbox]
    assert event["code"] == row(store).code
    assert SealedText.of(event["code"]) is not None


async def test_the_same_payload_is_a_repeat_and_another_secret_is_reuse(harness: Harness) -> None:
    first = door("Create", "d1", name="gate", code=CANARY)
    other = first.model_copy(update={"code": "another"})
    await harness.send(first)
    assert codes(await harness.send(first, other)) == [None, "ID_REUSE"]


async def test_a_row_keeps_its_key_and_another_row_has_another(
    store: MemoryCommandStore, harness: Harness
) -> None:
    await harness.send(door("Create", "d1", name="a", code="1"), door("Create", "d2", name="b", code="1"))
    await harness.send(door("Update", "d1", code="2"), door("Update", "d1", name="c"))
    keys = [key.key for key in store.tables.joined["secret_key"]]
    assert sorted(keys) == ["d1", "d2"]
    assert await clear(store, "d1") == ("2", None)
    assert await clear(store, "d2") == ("1", None)


async def test_a_refused_command_leaves_no_key(store: MemoryCommandStore, harness: Harness) -> None:
    assert codes(await harness.send(door("Update", "d1", code="2"))) == ["NOT_FOUND"]
    assert not store.tables.joined.get("secret_key")


async def test_what_the_row_holds_may_be_sent_back_with_other_changes(
    store: MemoryCommandStore, harness: Harness
) -> None:
    hidden = settings(password=CANARY, host="h1")
    await harness.send(door("Create", "d1", name="gate", code=CANARY, settings=hidden))
    changed = json.dumps(json.loads(row(store).settings) | {"host": "h2"})
    assert outcomes(await harness.send(door("Update", "d1", settings=changed))) == {"applied": 1}
    assert await clear(store) == (CANARY, {"password": CANARY, "host": "h2"})


async def test_a_ciphertext_of_another_row_is_refused_with_advice(
    store: MemoryCommandStore, harness: Harness
) -> None:
    hidden = settings(password="p")
    await harness.send(door("Create", "d1", name="gate", code="1", settings=hidden))
    done = await harness.send(door("Create", "d2", name="gate", code="1", settings=row(store).settings))
    assert codes(done) == ["INVALID"]
    assert "settings/password: is an encrypted text that is not the stored one" in done.outcomes[0][1].detail


async def test_after_an_erasure_the_old_value_is_gone_and_a_new_one_gets_a_new_key(
    store: MemoryCommandStore, harness: Harness
) -> None:
    await harness.send(door("Create", "d1", name="gate", code=CANARY))
    before = row(store).code
    assert await MemorySecretKeys(store).erase("doors", "d1") == 1
    with pytest.raises(Exception, match="SECRET_ERASED"):
        await clear(store)
    await harness.send(door("Update", "d1", code="new"))
    assert await clear(store) == ("new", None)
    assert before.startswith("tms1:1:")
    assert row(store).code.startswith("tms1:2:")


async def test_a_rotation_in_between_changes_no_value(store: MemoryCommandStore, harness: Harness) -> None:
    await harness.send(door("Create", "d1", name="gate", code="1"), door("Create", "d2", name="g", code="2"))
    rotated = harness_of(store, BOTH)
    rotated.topic = harness.topic
    await rotated.claim()
    await rotated.send(door("Create", "d3", name="gate", code="3"), door("Update", "d1", code="4"))
    masters = {key.key: held.master for key, held in store.tables.joined["secret_key"].items()}
    assert masters == {"d1": "old", "d2": "old", "d3": "new"}
    assert [(await clear(store, key))[0] for key in ("d1", "d2", "d3")] == ["4", "2", "3"]


async def test_a_batch_that_lacks_a_master_key_writes_nothing(
    store: MemoryCommandStore, harness: Harness
) -> None:
    await harness.send(door("Create", "d1", name="gate", code="1"))
    without = harness_of(store, NEW_ONLY)
    without.topic = harness.topic
    await without.claim()
    before = store.tables
    with pytest.raises(MasterKeyMissing):
        await without.send(door("Update", "d1", code="2"))
    assert store.tables is before


def test_a_stream_whose_secrets_are_required_has_no_handler_without_keys() -> None:
    with pytest.raises(MasterKeyMissing):
        handlers_of(STREAM, JsonCodec(STREAM), 1_000_000)


async def test_the_text_of_a_refusal_quotes_no_secret(store: MemoryCommandStore, harness: Harness) -> None:
    topic = harness.topic
    record = topic.record(door("Create", "d1", name="gate", code=CANARY))
    assert record.value is not None
    bad = replace(record, value=record.value.replace(CANARY.encode(), b"\\u0007" + CANARY.encode()))
    assert codes(await harness.apply(bad)) == ["INVALID"]
    assert CANARY not in repr(store.tables)


async def test_the_text_of_a_crash_is_not_kept_where_there_are_secrets(store: MemoryCommandStore) -> None:
    def crashing(row: Any, command: Any, at: Any) -> Any:
        raise ValueError(f"no {command.code}")

    specs = {name: replace(spec, rule=crashing) for name, spec in STREAM.commands.items()}  # type: ignore[call-arg]
    harness = harness_of(store, stream=replace(STREAM, commands=specs))
    await harness.claim()
    done = await harness.send(door("Create", "d1", name="gate", code=CANARY))
    assert codes(done) == ["CRASHED"]
    (logged,) = store.tables.log[1]
    assert logged.detail is not None
    assert "raised ValueError: its text is not shown" in logged.detail
    assert CANARY not in logged.detail


async def test_rows_of_a_family_have_keys_of_their_own() -> None:
    family = Stream.of(HOUSES)
    store = MemoryCommandStore(family)
    harness = harness_of(store, stream=family)
    await harness.claim()
    done = await harness.send(
        house("Create", "x", name="h", alarm="1"), room("Create", "x", house_id="x", safe="2")
    )
    assert outcomes(done) == {"applied": 2}
    places = sorted(place[:2] for place in store.tables.joined["secret_key"])
    assert places == [("houses", "x"), ("rooms", "x")]
    reader, held = KeyedSecretReader(MemorySecretKeys(store), OLD_ONLY), store.tables.states
    assert await reader.open("houses", "x", "alarm", held["houses"]["x"].alarm) == "1"
    assert await reader.open("rooms", "x", "safe", held["rooms"]["x"].safe) == "2"


# --- any cut of batches ---

KEYS = ("d1", "d2")
VALUES = st.sampled_from(["a", "b", "c"])
COMMANDS = st.one_of(
    st.builds(
        lambda key, code, password: door(
            "Create", key, name="n", code=code, settings=password and settings(password=password)
        ),
        st.sampled_from(KEYS),
        VALUES,
        st.none() | VALUES,
    ),
    st.builds(
        lambda key, code, password: door(
            "Update", key, name="m", code=code, settings=password and settings(password=password)
        ),
        st.sampled_from(KEYS),
        st.none() | VALUES,
        st.none() | VALUES,
    ),
    st.builds(lambda key: door("Delete", key), st.sampled_from(KEYS)),
)


async def played(batches: Any) -> Any:
    store = MemoryCommandStore(ONE_LANE)
    harness = harness_of(store, stream=ONE_LANE)
    await harness.claim()
    for batch in batches:
        await harness.apply(*batch)
    rows = {
        key: (await clear(store, key), held.name, held.version, held.deleted)
        for key, held in store.tables.states.get("doors", {}).items()
    }
    return rows, [(each.position, each.outcome, each.code) for each in store.tables.log[1]]


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.lists(COMMANDS, min_size=1, max_size=12), st.lists(st.integers(1, 5), max_size=6))
def test_any_cut_of_batches_gives_the_same_clear_values(commands: Any, sizes: list[int]) -> None:
    topic = Topic(ONE_LANE)
    records = [topic.record(command) for command in commands]

    async def both() -> None:
        assert await played(cut(records, sizes)) == await played([[each] for each in records])

    asyncio.run(both())
