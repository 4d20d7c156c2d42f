"""The API is what its description says: schemathesis tries it with valid and invalid data on real servers."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.support.http.api import Api, Granted, served
from tests.support.http.described import try_described
from tests.support.http.sizes import sized
from tidemill_devkit.stack import Stack

CONTEXTS = "market_data,connector_profiles,client_configs,telemetry_events,users"
COLLECTIONS = ("market-data", "latest-quotes", "connector-profiles", "client-configs", "users")
EXAMPLES, CHAINS = sized(5, 95), sized(20, 400)
REQUESTS = sized(1_000, 10_000)
MASTER_KEY = "tests:" + b64encode(bytes(32)).decode()


@pytest.fixture(scope="module")
def world(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, str]]:
    """A deployment with several contexts, and the token of a service that may do everything."""
    folder, principals = tmp_path_factory.mktemp("http"), {"all": [Granted("*", [*VERBS])]}
    own = {"TIDEMILL_CONTEXTS": CONTEXTS, "TIDEMILL_SECRET_KEYS": MASTER_KEY}
    with (
        new_database() as database,
        served(stack, database, unique_name("http"), folder, principals, servers=1, environment=own) as (
            api,
            tokens,
        ),
    ):
        yield api, tokens["all"]


VERBS = ("read", "create", "update", "delete", "operate")


def test_requests_of_every_kind_are_answered_as_the_description_says(
    world: tuple[Api, str], seed: int
) -> None:
    """No server error, no answer that is not described, no error that is not a problem document."""
    api, token = world
    tried = try_described(
        api.url(), token, seed, COLLECTIONS, service="all", examples=EXAMPLES, stateful=CHAINS
    )
    assert tried.failures == [], "\n\n".join(tried.failures)
    assert tried.requests >= REQUESTS, tried.by_phase
    assert {200, 201, 400, 404, 405, 501} <= set(tried.statuses), tried.statuses
