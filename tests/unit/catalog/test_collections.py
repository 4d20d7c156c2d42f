"""The collections of the built-in contexts, and what becomes of names that clash."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.engine.built_in import BUILT_IN
from tidemill.catalog.collections import collections_of
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.domain.collection import CollectionKind
from tidemill.domain.context import Context
from tidemill.domain.errors import ContractError
from tidemill.domain.stream import Stream
from tidemill.queries.collections import Collections
from tidemill.storage.database.table_sql import column_type


def catalog(*contexts: Context) -> StreamCatalog:
    return StreamCatalog(
        {context.aggregate: ContextStream(context, Stream.of(context)) for context in contexts}
    )


COLLECTIONS = collections_of(catalog(*BUILT_IN.values()))


def test_every_built_in_context_has_collections() -> None:
    kinds = {name: str(collection.kind) for name, collection in COLLECTIONS.items()}
    assert kinds == {
        "analysis-files": "state",
        "cache-entries": "state",
        "client-configs": "state",
        "connector-directory": "read_model",
        "connector-profiles": "state",
        "daily-bars": "read_model",
        "data-analyses": "state",
        "latest-quotes": "read_model",
        "market-data": "facts",
        "news-articles": "facts",
        "service-proposals": "state",
        "system-logs": "facts",
        "telemetry-events": "facts",
        "time-series-data-points": "facts",
        "time-series-metadata": "state",
        "time-series-numeric-points": "facts",
        "tool-generations": "state",
        "users": "state",
    }
    assert [visible.name for visible in Collections(COLLECTIONS.values(), column_type)] == [*COLLECTIONS]


def test_facts_have_a_time_and_no_key() -> None:
    facts = COLLECTIONS["market-data"]
    assert (facts.key, facts.time_column, facts.retention) == ((), "time", "public.market_data")
    assert facts.columns[0] == "time"
    assert facts.aggregate == "market-data"


def test_a_read_model_has_its_key_and_projection() -> None:
    bars = COLLECTIONS["daily-bars"]
    assert (bars.key, bars.projection, bars.aggregate) == (("symbol", "day"), "daily-bars", "market-data")


def test_what_readers_see_of_an_entity_is_its_view() -> None:
    users = COLLECTIONS["users"]
    assert (users.table.name, users.key, users.kind) == ("users_view", ("id",), CollectionKind.STATE)
    assert not {"hashed_password", "deleted", "username_folded"}.intersection(users.columns)


def test_a_state_without_a_view_is_its_table_without_secrets() -> None:
    profiles = COLLECTIONS["connector-profiles"]
    assert (profiles.table.schema, profiles.table.name) == ("public", "connector_profiles")
    assert profiles.key == ("id",)
    assert profiles.columns == (
        "id",
        "name",
        "service_name",
        "active",
        "version",
        "created_at",
        "updated_at",
    )
    assert "active" in profiles.table.columns
    assert "profile_data" not in profiles.table.columns
    assert len(profiles.table.columns) == 7
    assert profiles.table.columns["id"].name == "id"


def test_facts_yield_their_name_to_a_read_model() -> None:
    market = BUILT_IN["market_data"]
    named = replace(market.projections[0], name="market-data")
    collections = collections_of(catalog(replace(market, projections=(named,))))
    assert collections["market-data"].kind is CollectionKind.READ_MODEL


def test_two_contexts_cannot_share_a_name() -> None:
    market, users = BUILT_IN["market_data"], BUILT_IN["users"]
    named = replace(market.projections[0], name="users")
    with pytest.raises(ContractError, match="collection users is declared twice"):
        collections_of(catalog(replace(market, projections=(named,)), users))
