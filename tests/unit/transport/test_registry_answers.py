"""What is said of a registry that refuses a schema, or that a proxy does not reach."""

from __future__ import annotations

import pytest
from confluent_kafka.schema_registry import SchemaRegistryError

from tidemill.domain.errors import Unavailable
from tidemill.transport.registry import ConfluentRegistry, _refusal, proxy_advice

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
REGISTRY = "http://registry.example:8081"


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({"HTTP_PROXY": "http://me:secret@127.0.0.1:1"}, "HTTP_PROXY"),
        ({"ALL_PROXY": "http://127.0.0.1:1"}, "ALL_PROXY"),
        ({"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "other.example"}, "HTTP_PROXY"),
        ({"HTTPS_PROXY": "http://127.0.0.1:1"}, None),
        ({"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "registry.example"}, None),
        ({}, None),
    ],
)
def test_the_variable_that_names_a_proxy_is_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], variable: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    advice = proxy_advice(REGISTRY)
    assert (advice is None) == (variable is None)
    if advice is not None:
        assert f"through the proxy 127.0.0.1:1, which {variable} names" in advice
        assert "add registry.example to NO_PROXY" in advice


async def test_a_proxy_that_does_not_answer_is_told_from_the_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    registry = ConfluentRegistry(REGISTRY)
    with pytest.raises(Unavailable, match="which HTTP_PROXY names: add") as caught:
        await registry.find(1)
    assert caught.value.advised, "the registry's own address may be right"
    await registry.close()


def test_a_refusal_has_no_names_of_the_registrys_classes() -> None:
    said = "io.apicurio.registry.rules.RuleViolationException: Incompatible artifact: prices [AVRO]"
    refusal = _refusal("prices-value", SchemaRegistryError(409, 409, said))
    assert refusal.startswith("the registry refuses prices-value: Incompatible artifact: prices [AVRO]; ")
    assert "`tidemill schemas check`" in refusal
