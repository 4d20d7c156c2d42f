"""Deployments that failures are made to happen to; everything that a journey starts ends with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.clients.journeys import SESSION_S, Deployment
from tests.support.servers.installation import Installation, installation_on
from tidemill_devkit.stack import Stack


@pytest.fixture
def partitions() -> int:
    """How many lanes each aggregate has; a journey that needs others says so by parametrising it."""
    return 2


def plain_installation(
    stack: Stack, database: str, prefix: str, partitions: int, folder: Path
) -> Installation:
    """Return an installation without a registry, whose dead processes are soon missed."""
    made = installation_on(stack, database, prefix, folder, partitions).environment
    own = {"TIDEMILL_KAFKA_SESSION_S": str(SESSION_S), "TIDEMILL_REGISTRY_URL": ""}
    return Installation({**made, **own}, folder)


def make_deployment(
    stack: Stack, database: str, prefix: str, partitions: int, folder: Path, exit_stack: ExitStack
) -> Deployment:
    """Return a deployment without a registry, whose topics and lanes exist; nothing serves yet."""
    installation = plain_installation(stack, database, prefix, partitions, folder)
    deployment = Deployment(installation, partitions, exit_stack)
    deployment("topics", "create")
    return deployment


@pytest.fixture
def exit_stack() -> Iterator[ExitStack]:
    """Ends what a test has started, last first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def deployment(
    stack: Stack, database: str, topic_prefix: str, partitions: int, tmp_path: Path, exit_stack: ExitStack
) -> Deployment:
    """A deployment on the servers that all tests share."""
    return make_deployment(stack, database, topic_prefix, partitions, tmp_path, exit_stack)


@pytest.fixture
def breakable_deployment(
    breakable_stack: Stack,
    breakable_database: str,
    unique_name: Callable[[str], str],
    partitions: int,
    tmp_path: Path,
    exit_stack: ExitStack,
) -> Deployment:
    """A deployment on servers that may be broken."""
    return make_deployment(
        breakable_stack, breakable_database, unique_name("broken"), partitions, tmp_path, exit_stack
    )
