"""What every `SchemaRegistry` promises, asked of the fake and of a real one alike."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.fakes.registry import MemoryRegistry
from tidemill.catalog.ports import SchemaRegistry
from tidemill.domain.errors import ContractError
from tidemill.transport.registry import ConfluentRegistry


@pytest.fixture(params=["memory", "confluent"])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[SchemaRegistry]:
    if request.param == "memory":
        yield MemoryRegistry()
        return
    url = request.getfixturevalue("stack").registry_url
    if url is None:
        pytest.skip("the servers that were given have no registry: set TIDEMILL_TEST_REGISTRY_URL")
    real = ConfluentRegistry(url)
    yield real
    await real.close()


@pytest.fixture
def subject(unique_name: Callable[[str], str]) -> str:
    return unique_name("subject")


def schema(subject: str, *more: dict[str, Any], doc: str = "") -> str:
    fields = [{"name": "a", "type": "string"}, *more]
    name = subject.replace("-", "_")
    return json.dumps({"type": "record", "name": name, "namespace": "tests", "doc": doc, "fields": fields})


NEEDED: dict[str, Any] = {"name": "b", "type": "long"}
OPTIONAL: dict[str, Any] = {"name": "b", "type": ["null", "long"], "default": None}


async def test_what_is_registered_is_found_by_id_and_by_text(registry: SchemaRegistry, subject: str) -> None:
    text = schema(subject)
    schema_id = await registry.register(subject, text)
    assert await registry.id_of(subject, text) == schema_id
    found = await registry.find(schema_id)
    assert found is not None
    assert json.loads(found.text) == json.loads(text)
    assert found.subjects == {subject}


async def test_a_repeat_gets_the_same_id(registry: SchemaRegistry, subject: str) -> None:
    text = schema(subject)
    assert await registry.register(subject, text) == await registry.register(subject, text)


async def test_white_space_does_not_matter(registry: SchemaRegistry, subject: str) -> None:
    schema_id = await registry.register(subject, schema(subject))
    spaced = json.dumps(json.loads(schema(subject)), indent=4)
    assert await registry.id_of(subject, spaced) == schema_id


async def test_one_schema_under_two_subjects_has_one_id(registry: SchemaRegistry, subject: str) -> None:
    text, other = schema(subject), f"{subject}-other"
    assert await registry.register(subject, text) == await registry.register(other, text)
    found = await registry.find(await registry.register(subject, text))
    assert found is not None
    assert found.subjects == {subject, other}


async def test_what_is_not_there_is_none(registry: SchemaRegistry, subject: str) -> None:
    assert await registry.find(2_000_000_000) is None
    assert await registry.id_of(subject, schema(subject)) is None
    await registry.register(subject, schema(subject))
    assert await registry.id_of(subject, schema(subject, NEEDED)) is None
    assert await registry.id_of(f"{subject}-other", schema(subject)) is None


async def test_what_appears_later_is_found(registry: SchemaRegistry, subject: str) -> None:
    assert await registry.id_of(subject, schema(subject)) is None
    schema_id = await registry.register(subject, schema(subject))
    assert await registry.id_of(subject, schema(subject)) == schema_id


async def test_incompatible_versions_are_refused_once_that_is_required(
    registry: SchemaRegistry, subject: str
) -> None:
    await registry.register(subject, schema(subject))
    await registry.require(subject, "BACKWARD_TRANSITIVE")
    with pytest.raises(ContractError, match=subject):
        await registry.register(subject, schema(subject, NEEDED))
    await registry.register(subject, schema(subject, OPTIONAL))


async def test_full_compatibility_looks_both_ways(registry: SchemaRegistry, subject: str) -> None:
    await registry.register(subject, schema(subject))
    await registry.register(subject, schema(subject, NEEDED))
    await registry.require(subject, "FULL_TRANSITIVE")
    with pytest.raises(ContractError):
        await registry.register(subject, schema(subject, {**NEEDED, "type": "double"}))
