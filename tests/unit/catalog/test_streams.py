"""The streams of a deployment are found as people name them."""

from __future__ import annotations

import pytest

from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.market_data import context as market_data
from tidemill.domain.errors import UsageError
from tidemill.domain.stream import Stream

CATALOG = StreamCatalog(
    {
        context.aggregate: ContextStream(context, Stream.of(context))
        for context in (market_data, connector_profiles)
    }
)


@pytest.mark.parametrize("name", ["market-data", "market_data"])
def test_an_aggregate_may_be_written_like_its_context(name: str) -> None:
    assert CATALOG.of(name).context is market_data
    assert CATALOG.aggregate(name) == "market-data"
    assert CATALOG.aggregate(None) is None


def test_another_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        UsageError, match="no aggregate 'quotes': choose one of market-data, connector-profiles"
    ):
        CATALOG.of("quotes")
    with pytest.raises(UsageError, match="no read model 'quotes': choose one of latest-quotes"):
        CATALOG.projection("quotes")


def test_a_decided_aggregate_has_its_state_as_a_read_model_of_its_own() -> None:
    assert list(CATALOG.states()) == ["connector-profiles/state"]


def test_the_topics_are_those_of_every_stream() -> None:
    assert len(CATALOG.topics()) == 8
    assert "tidemill.market-data.commands.v1.dlq" in CATALOG.topics()
