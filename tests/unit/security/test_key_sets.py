"""Keys are taken from the set only if they can verify, and the set is read rarely, also when strangers ask for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.fakes.key_sets import MemoryKeySet
from tests.support.security.principals import MovedClock
from tests.support.security.signers import Signer, key_set
from tidemill.domain.errors import RequestRefused
from tidemill.security.key_sets import SigningKeys, parse_keys

DAY_S = 86_400
SIGNERS = [Signer("RS256", "r"), Signer("ES256", "e"), Signer("EdDSA", "d")]
EC = Signer("ES256", "e")


def test_each_key_has_its_one_algorithm() -> None:
    assert set(parse_keys(key_set(*SIGNERS))) == {("r", "RS256"), ("e", "ES256"), ("d", "EdDSA")}


def weak() -> dict[str, Any]:
    public = rsa.generate_private_key(65_537, 1_024).public_key()
    return {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": "r"}


@pytest.mark.parametrize(
    "unusable",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "HS256"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "s", "alg": "RS256"},
        {**ECAlgorithm.to_jwk(EC.key, as_dict=True), "kid": "private"},
        EC.described(use="enc"),
        EC.described(alg="ES512"),
        EC.described(alg="HS256"),
        EC.described(alg="none"),
        EC.described(crv="P-384"),
        EC.described(crv=["P-256"]),
        EC.described(kty=["EC"]),
        EC.described(x="AAAA"),
        EC.described(x=7),
        EC.described(kid=None),
        EC.described(kid=7),
        EC.described(kid=""),
        weak(),
        {},
        "text",
        None,
    ],
)
def test_what_can_verify_nothing_is_left_out(unusable: Any) -> None:
    good = Signer("ES256", "good")
    assert set(parse_keys(json.dumps({"keys": [unusable, good.described()]}).encode())) == {("good", "ES256")}


def test_of_two_keys_with_one_name_the_first_counts() -> None:
    two = [EC.described(), Signer("ES256", "other").described(kid="e")]
    (key,) = parse_keys(json.dumps({"keys": two}).encode()).values()
    assert key.key.public_numbers() == EC.key.public_key().public_numbers()


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"keys": {}}', b'"keys"', b"\xff", json.dumps({"keys": [{}] * 101}).encode()],
)
def test_what_is_no_set_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_keys(text)


class Asked:
    """Keys with the place that they come from, and a clock."""

    def __init__(self, *signers: Signer) -> None:
        self.clock = MovedClock()
        self.source = MemoryKeySet(key_set(*signers))
        self.keys = SigningKeys(self.source, self.clock)

    async def has(self, kid: str) -> bool:
        return await self.keys.key(kid, "ES256") is not None


async def test_strangers_make_it_read_at_most_once_a_minute() -> None:
    asked = Asked(EC)
    for _ in range(600):
        assert not await asked.has("made-up")
        asked.clock.pass_(0.1)
    assert asked.source.asked == 1
    await asked.has("made-up")
    assert asked.source.asked == 2


async def test_a_new_key_is_found_when_it_is_first_used() -> None:
    asked = Asked(EC)
    assert await asked.has("e")
    asked.source.content = key_set(EC, Signer("ES256", "new"))
    assert not await asked.has("new")
    asked.clock.pass_(60)
    assert await asked.has("new")
    assert await asked.has("e")


async def test_a_dead_server_leaves_the_old_keys_in_force_for_a_day() -> None:
    asked = Asked(EC)
    assert await asked.has("e")
    asked.source.content = None
    for _ in range(DAY_S // 3_600):
        asked.clock.pass_(3_600)
        assert await asked.has("e")
    asked.clock.pass_(60)
    with pytest.raises(RequestRefused, match="cannot be read"):
        await asked.has("e")
    asked.source.content = key_set(EC)
    asked.clock.pass_(60)
    assert await asked.has("e")


@pytest.mark.parametrize("damaged", [b"<html>", b'{"keys": 1}', b"[" * 100_000])
async def test_an_answer_that_is_no_set_counts_as_none(damaged: bytes) -> None:
    asked = Asked(EC)
    assert await asked.has("e")
    asked.source.content = damaged
    asked.clock.pass_(61)
    assert not await asked.has("made-up")
    assert await asked.has("e")
    assert asked.source.asked == 2


async def test_an_empty_set_withdraws_all_keys() -> None:
    asked = Asked(EC)
    assert await asked.has("e")
    asked.source.content = key_set()
    asked.clock.pass_(61)
    assert not await asked.has("made-up")
    assert not await asked.has("e")
