"""The schema of a collection as a principal sees it: complete, and without a trace of what is hidden from it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text

from tests.fakes.service import MemoryTables, table_facts
from tidemill.admin.service.collection_schema import ColumnUse, SchemaReader, place_of
from tidemill.admin.service.rows import (
    AggregateFacts,
    ChunkRow,
    ColumnFacts,
    ConstraintFacts,
    HypertableFacts,
    IndexFacts,
    TableFacts,
)
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile, UpdateConnectorProfile
from tidemill.contexts.connector_profiles.state import connector_profiles
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.contexts.telemetry_events import RecordTelemetryEvents
from tidemill.contexts.telemetry_events import context as telemetry
from tidemill.domain.collection import Collection, CollectionKind, Crud
from tidemill.domain.errors import RequestRefused, Unavailable
from tidemill.domain.request_codes import RequestCode
from tidemill.security.principals import Grant, Principal, PrincipalKind, Verb

AT = datetime(2026, 1, 1, tzinfo=UTC)
TICKS = market_data.commands[0].appends_to
assert TICKS is not None
ticks = Collection(
    name="market-data",
    kind=CollectionKind.FACTS,
    aggregate="market-data",
    table=TICKS,
    time_column="time",
    retention="public.market_data",
    crud=Crud(create=RecordMarketData),
)
accounts_table = Table(
    "accounts",
    MetaData(),
    Column("id", BigInteger, primary_key=True),
    Column("email", Text, nullable=False),
    Column("phone", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
accounts = Collection(
    name="accounts",
    kind=CollectionKind.STATE,
    aggregate="accounts",
    table=accounts_table,
    key=("id", "email"),
)
READER = Grant(frozenset({Verb.READ}))


def principal(**grants: Grant) -> Principal:
    named = {name.replace("_", "-"): grant for name, grant in grants.items()}
    return Principal("billing", PrincipalKind.SERVICE, named)


def use_of(collection: Collection, column: str) -> ColumnUse:
    return ColumnUse("string" if column == "id" else "plain", ("eq", "in"), sortable=column == "id")


def facts_of_accounts() -> TableFacts:
    return table_facts(
        id="bigint", email="text", phone="text", created_at="timestamp with time zone"
    )._replace(
        constraints=[
            ConstraintFacts("PRIMARY KEY (id)", ["id"]),
            ConstraintFacts("CHECK (email <> phone)", ["email", "phone"]),
        ],
        indexes=[
            IndexFacts("accounts_pkey", ["id"], unique=True, plain=True),
            IndexFacts("accounts_email", ["email"], unique=True, plain=True),
            IndexFacts("accounts_reached", ["id"], unique=False, plain=False),
            IndexFacts("accounts_lower", ["lower(email)"], unique=True, plain=False),
        ],
    )


def facts_of_ticks() -> TableFacts:
    plain = table_facts(**{column.name: "text" for column in ticks.table.columns})
    chunks = [
        ChunkRow(f"_timescaledb_internal.c{n}", AT, AT + timedelta(days=7), compressed=False, size_bytes=9)
        for n in range(5)
    ]
    return plain._replace(
        columns={**plain.columns, "time": ColumnFacts("timestamp with time zone", "now()")},
        hypertable=HypertableFacts(
            "time", "7 days", compression_enabled=False, chunks=5, last_chunk_created=AT
        ),
        chunks=chunks,
        aggregates=[
            AggregateFacts("public.hourly", materialized=True, refresh_policy={"schedule_interval": "1:00"})
        ],
        first_applied={"core": AT - timedelta(days=1), "market_data": AT},
    )


def reader(**changes: Any) -> SchemaReader:
    tables = MemoryTables({place_of(ticks): facts_of_ticks(), place_of(accounts): facts_of_accounts()})
    assert market_data.retention is not None
    whole = SchemaReader(
        collections={"market-data": ticks, "accounts": accounts},
        tables=tables,
        describe=use_of,
        retention={"public.market_data": market_data.retention},
        limits={"page_rows": 1_000},
    )
    return replace(whole, **changes)


async def test_facts_are_described_with_their_hypertable_chunks_and_commands() -> None:
    grant = Grant(frozenset({Verb.READ, Verb.CREATE}))
    schema = (await reader(max_chunks=2).one(principal(market_data=grant), "market-data")).answer
    assert (schema.name, schema.database, schema.kind, schema.time_column) == (
        "market-data",
        "tidemill",
        CollectionKind.FACTS,
        "time",
    )
    assert [field.name for field in schema.fields] == [column.name for column in ticks.table.columns]
    time = schema.fields[0]
    assert (time.type, time.required, time.default_value) == ("timestamp with time zone", True, "now()")
    assert (time.encoding, time.operators, time.constraints) == ("plain", ["eq", "in"], ["NOT NULL"])
    assert schema.partitioning is not None
    assert (schema.partitioning.strategy, schema.partitioning.key) == ("time", "time")
    assert schema.security.access_control == "create, read"
    assert schema.hypertable is not None
    assert (schema.hypertable.retention_period, schema.hypertable.created_at) == ("730 days", AT)
    assert len(schema.chunks) == 2
    assert [aggregate.view_name for aggregate in schema.continuous_aggregates] == ["public.hourly"]
    assert schema.limits == {"page_rows": 1_000}
    command = schema.commands["create"]
    assert command.command == "RecordMarketData"
    assert {"symbol", "price", "command_id"} <= command.body["properties"].keys()
    assert not {"command_id", "service_name", "timestamp"} & set(command.body["required"])
    assert "symbol" in command.body["required"]


async def test_commands_are_shown_to_those_who_may_send_them() -> None:
    schema = (await reader().one(principal(market_data=READER), "market-data")).answer
    assert schema.commands == {}
    assert schema.security.access_control == "read"


async def test_a_body_is_described_with_the_declared_checks_of_its_command() -> None:
    grant = Grant(frozenset({Verb.CREATE}))
    schema = (await reader().one(principal(market_data=grant), "market-data")).answer
    properties = schema.commands["create"].body["properties"]
    assert properties["high"]["description"] == "Not below low."
    zoned = "With a time zone. Not before 2000-01-01, at most 300 s ahead of the server."
    assert (properties["time"]["format"], properties["time"]["description"]) == ("date-time", zoned)
    assert (properties["symbol"]["maxLength"], properties["symbol"]["pattern"][:2]) == (32, "^[")
    assert properties["volume"]["anyOf"][0]["minimum"] == 0


async def test_what_a_body_embeds_is_described_as_an_object() -> None:
    """A command has it as text; over HTTP a text is refused there."""
    crud = Crud(create=RegisterConnectorProfile, update=UpdateConnectorProfile, key="profile_id")
    profiles = replace(accounts, table=connector_profiles, key=("id",), crud=crud)
    facts = table_facts(**{column.name: "text" for column in connector_profiles.columns})
    made = reader(collections={"accounts": profiles}, tables=MemoryTables({place_of(profiles): facts}))
    schema = (await made.one(principal(accounts=Grant(frozenset(Verb))), "accounts")).answer
    created, updated = (schema.commands[verb].body["properties"] for verb in ("create", "update"))
    assert created["profile_data"]["anyOf"] == [{"type": "object"}]
    assert updated["profile_data"]["anyOf"] == [{"type": "object"}, {"type": "null"}]
    assert created["name"]["type"] == "string"


async def test_what_records_of_a_body_embed_is_described_as_an_object() -> None:
    telemetry_table = telemetry.commands[0].appends_to
    assert telemetry_table is not None
    profiles = replace(accounts, table=telemetry_table, crud=Crud(create=RecordTelemetryEvents))
    facts = table_facts(**{column.name: "text" for column in telemetry_table.columns})
    made = reader(collections={"accounts": profiles}, tables=MemoryTables({place_of(profiles): facts}))
    schema = (await made.one(principal(accounts=Grant(frozenset(Verb))), "accounts")).answer
    record = schema.commands["create"].body["$defs"]["TelemetryEvent"]["properties"]
    assert {"type": "object"} in record["attributes"]["anyOf"]


async def test_a_hidden_column_leaves_no_trace() -> None:
    hiding = Grant(frozenset({Verb.READ}), hidden=frozenset({"email"}))
    schema = (await reader().one(principal(accounts=hiding), "accounts")).answer
    assert [field.name for field in schema.fields] == ["id", "phone", "created_at"]
    assert [index.name for index in schema.indexes] == ["accounts_pkey"], "nor what an expression may name"
    assert schema.key == ["id"]
    assert schema.fields[1].constraints == []
    assert "email" not in schema.model_dump_json()
    shown = (await reader().one(principal(accounts=READER), "accounts")).answer
    assert shown.fields[1].constraints == ["NOT NULL", "CHECK (email <> phone)"]
    assert len(shown.indexes) == 3, "an index over an expression names no field"


async def test_a_schema_with_a_hidden_column_is_that_of_a_table_without_it() -> None:
    hiding = Grant(frozenset({Verb.READ}), hidden=frozenset({"email"}))
    without = Table(
        "accounts",
        MetaData(),
        *(Column(column.name, column.type, nullable=column.nullable) for column in accounts_table.columns
          if column.name != "email"),
    )  # fmt: skip
    bare = table_facts(id="bigint", phone="text", created_at="timestamp with time zone")._replace(
        constraints=[ConstraintFacts("PRIMARY KEY (id)", ["id"])],
        indexes=[IndexFacts("accounts_pkey", ["id"], unique=True, plain=True)],
    )
    smaller = replace(accounts, table=without, key=("id",))
    other = reader(collections={"accounts": smaller}, tables=MemoryTables({place_of(accounts): bare}))
    one = await reader().one(principal(accounts=hiding), "accounts")
    two = await other.one(principal(accounts=READER), "accounts")
    assert one.etag == two.etag
    assert one.answer.model_dump_json() == two.answer.model_dump_json()


async def test_a_hidden_time_column_hides_how_the_table_is_divided() -> None:
    hiding = Grant(frozenset({Verb.READ}), hidden=frozenset({"time"}))
    schema = (await reader().one(principal(market_data=hiding), "market-data")).answer
    assert (schema.time_column, schema.partitioning, schema.hypertable, schema.chunks) == (
        None,
        None,
        None,
        [],
    )
    assert schema.continuous_aggregates == []


async def test_a_hidden_column_stays_in_the_command_of_one_who_may_write() -> None:
    grant = Grant(frozenset({Verb.CREATE}), hidden=frozenset({"price"}))
    schema = (await reader().one(principal(market_data=grant), "market-data")).answer
    assert "price" not in [field.name for field in schema.fields]
    assert "price" in schema.commands["create"].body["properties"]


async def test_no_grant_and_no_collection_are_refused_alike() -> None:
    refusals = []
    for who, name in [(principal(accounts=READER), "market-data"), (principal(accounts=READER), "nowhere")]:
        with pytest.raises(RequestRefused) as refused:
            await reader().one(who, name)
        refusals.append((refused.value.request_code, refused.value.detail, refused.value.faults))
    assert refusals[0] == refusals[1]
    assert refusals[0][0] is RequestCode.NO_COLLECTION


async def test_all_schemas_are_those_with_a_grant_and_without_chunks() -> None:
    every = (await reader().every(principal(market_data=READER, accounts=READER))).answer.collections
    assert [schema.name for schema in every] == ["accounts", "market-data"]
    assert every[1].chunks == []
    assert every[1].hypertable is not None
    assert (await reader().every(principal(accounts=READER))).answer.collections[0].name == "accounts"
    assert (await reader().every(principal())).answer.collections == []


async def test_what_the_database_lacks_is_unavailable_for_that_collection_alone() -> None:
    tables = MemoryTables({place_of(accounts): facts_of_accounts()})
    lacking, who = reader(tables=tables), principal(market_data=READER, accounts=READER)
    with pytest.raises(Unavailable):
        await lacking.one(who, "market-data")
    assert [schema.name for schema in (await lacking.every(who)).answer.collections] == ["accounts"]
    assert (await lacking.one(who, "accounts")).answer.name == "accounts"


async def test_the_etag_changes_with_the_answer_and_only_then() -> None:
    who = principal(accounts=READER)
    first, again = await reader().one(who, "accounts"), await reader().one(who, "accounts")
    assert first.etag == again.etag
    assert first.etag.startswith('"')
    assert not first.etag.startswith("W/")
    assert (await reader(limits={"page_rows": 10}).one(who, "accounts")).etag != first.etag


async def test_the_specified_schema_is_in_it() -> None:
    """The names of the specification's Collection/Table Schema, at their places."""
    schema = json.loads((await reader().one(principal(accounts=READER), "accounts")).answer.model_dump_json())
    assert {"name", "database", "fields", "indexes", "partitioning", "security"} <= schema.keys()
    assert {"name", "type", "required", "default_value", "constraints"} <= schema["fields"][0].keys()
    assert schema["indexes"][0].keys() == {"name", "fields", "unique"}
    assert schema["security"].keys() == {"access_control"}
