"""An installation that serves everything, shared by the tests of a module."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from tests.support.servers.installation import Installation, installation_on
from tidemill_devkit.stack import Stack

CONTEXTS = "market_data,client_configs,users,data_analyses,service_proposals"
MASTER_KEY = "first:" + "A" * 43 + "="


@pytest.fixture(scope="module")
def served(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:
    """Topics and lanes exist, without a registry, and `serve commands` runs."""
    with new_database() as database:
        folder = tmp_path_factory.mktemp("served")
        plain = installation_on(stack, database, unique_name("submitted"), folder)
        own = {"TIDEMILL_CONTEXTS": CONTEXTS, "TIDEMILL_SECRET_KEYS": MASTER_KEY, "TIDEMILL_REGISTRY_URL": ""}
        installation = replace(plain, environment={**plain.environment, **own})
        installation("migrate")
        installation("topics", "create")
        with installation.serving("commands"):
            yield installation
