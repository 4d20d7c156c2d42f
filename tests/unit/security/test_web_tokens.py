"""A JWT counts only if a key of the set signed it, for this service, now; what it says about keys is never followed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.fakes.key_sets import MemoryKeySet
from tests.support.security.principals import MovedClock, World
from tests.support.security.signers import AUDIENCE, ISSUER, Signer, claims, forged, key_set
from tidemill.domain.errors import RequestRefused
from tidemill.runtime.telemetry.metrics import REGISTRY
from tidemill.security.credential_faults import CredentialFault
from tidemill.security.key_sets import SigningKeys
from tidemill.security.principals import PrincipalKind
from tidemill.security.web_tokens import SKEW_S, WebSubject, WebTokenConfig, WebTokenVerifier

SIGNER = Signer()
CONFIG = WebTokenConfig(issuer=ISSUER, audience=AUDIENCE)
MAX_LIFE_S = 900


@dataclass
class Verification:
    """A verifier with one honest signer, unless a test puts another set there."""

    clock: MovedClock = field(default_factory=MovedClock)
    source: MemoryKeySet = field(default_factory=lambda: MemoryKeySet(key_set(SIGNER)))
    config: WebTokenConfig = CONFIG

    def __post_init__(self) -> None:
        self.verifier = WebTokenVerifier(SigningKeys(self.source, self.clock), self.config, self.clock)

    def claims(self, **more: Any) -> dict[str, Any]:
        return claims(self.clock.at, **more)

    async def of(self, text: str) -> WebSubject | CredentialFault:
        return await self.verifier.verify(text)

    async def accepts(self, text: str) -> bool:
        return isinstance(await self.of(text), WebSubject)


@pytest.fixture
def verification() -> Verification:
    return Verification()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_an_honest_one_names_its_subject(algorithm: str) -> None:
    signer = Signer(algorithm)
    verification = Verification(source=MemoryKeySet(key_set(signer)))
    subject = await verification.of(signer.sign(verification.claims(subject="billing")))
    assert isinstance(subject, WebSubject)
    assert subject.name == "billing"


async def test_another_claim_may_name_the_principal() -> None:
    verification = Verification(config=replace(CONFIG, subject_claim="azp"))
    subject = await verification.of(SIGNER.sign(verification.claims(azp="shop")))
    assert isinstance(subject, WebSubject)
    assert subject.name == "shop"


@pytest.mark.parametrize("types", [{}, {"typ": "JWT"}, {"typ": "at+jwt"}, {"typ": "application/at+jwt"}])
async def test_an_access_token_may_say_that_it_is_one(
    types: dict[str, str], verification: Verification
) -> None:
    assert await verification.accepts(SIGNER.sign(verification.claims(), **types))


def hmac_with_the_public_key(verification: Verification) -> str:
    signer = Signer("RS256", "k2")
    verification.source.content = key_set(SIGNER, signer)
    return forged({"alg": "HS256", "kid": "k2"}, verification.claims(), signer.public_pem)


def hmac_called_rsa(verification: Verification) -> str:
    signer = Signer("RS256", "k2")
    verification.source.content = key_set(SIGNER, signer)
    return forged({"alg": "RS256", "kid": "k2"}, verification.claims(), signer.public_pem)


def hmac_with_a_key_of_the_set(verification: Verification) -> str:
    symmetric = {
        "kty": "oct",
        "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ",
        "kid": "k2",
        "alg": "HS256",
    }
    verification.source.content = json.dumps({"keys": [SIGNER.described(), symmetric]}).encode()
    return forged({"alg": "HS256", "kid": "k2"}, verification.claims(), b"secret-secret-secret-secret-1234")


FORGERIES: dict[str, tuple[Callable[[Verification], str], CredentialFault | None]] = {
    "no signature": (
        lambda it: forged({"alg": "none", "kid": "k1"}, it.claims()),
        CredentialFault.WRONG_ALGORITHM,
    ),
    "no signature, spelt otherwise": (
        lambda it: forged({"alg": "nOnE", "kid": "k1"}, it.claims()),
        CredentialFault.WRONG_ALGORITHM,
    ),
    "no signature, but said to be signed": (
        lambda it: forged({"alg": "ES256", "kid": "k1"}, it.claims()),
        CredentialFault.WRONG_SIGNATURE,
    ),
    "no algorithm": (lambda it: forged({"kid": "k1"}, it.claims()), CredentialFault.WRONG_ALGORITHM),
    "an algorithm that is a list": (
        lambda it: forged({"alg": ["ES256"], "kid": "k1"}, it.claims()),
        CredentialFault.WRONG_ALGORITHM,
    ),
    "the public key as the secret": (hmac_with_the_public_key, CredentialFault.WRONG_ALGORITHM),
    "the public key as the secret, called RSA": (hmac_called_rsa, CredentialFault.WRONG_SIGNATURE),
    "a symmetric key of the set": (hmac_with_a_key_of_the_set, CredentialFault.WRONG_ALGORITHM),
    "the algorithm of another key": (
        lambda it: forged({"alg": "RS256", "kid": "k1"}, it.claims(), b"x" * 32),
        CredentialFault.UNKNOWN_KEY,
    ),
    "another one's key under a known name": (
        lambda it: Signer("ES256", "other").sign(it.claims(), kid="k1"),
        CredentialFault.WRONG_SIGNATURE,
    ),
    "an unknown key": (lambda it: Signer("ES256", "k9").sign(it.claims()), CredentialFault.UNKNOWN_KEY),
    "no key": (lambda it: forged({"alg": "ES256"}, it.claims()), CredentialFault.UNKNOWN_KEY),
    "a key that is a path": (
        lambda it: SIGNER.sign(it.claims(), kid="../../../../dev/null"),
        CredentialFault.UNKNOWN_KEY,
    ),
    "a key that is SQL": (
        lambda it: SIGNER.sign(it.claims(), kid="k1' or '1'='1"),
        CredentialFault.UNKNOWN_KEY,
    ),
    "a key that is an address": (
        lambda it: SIGNER.sign(it.claims(), kid="file:///k1"),
        CredentialFault.UNKNOWN_KEY,
    ),
    "a key that is a number": (
        lambda it: forged({"alg": "ES256", "kid": 1}, it.claims()),
        CredentialFault.MALFORMED,
    ),
    "an extension that must be understood": (
        lambda it: forged({"alg": "ES256", "kid": "k1", "crit": ["b64"], "b64": False}, it.claims()),
        None,
    ),
    "made for a logout": (lambda it: SIGNER.sign(it.claims(), typ="logout+jwt"), CredentialFault.WRONG_TYPE),
    "another audience": (lambda it: SIGNER.sign(it.claims(aud="shop")), CredentialFault.WRONG_AUDIENCE),
    "several other audiences": (
        lambda it: SIGNER.sign(it.claims(aud=["a", "b"])),
        CredentialFault.WRONG_AUDIENCE,
    ),
    "no audience": (lambda it: SIGNER.sign(it.claims(aud=None)), CredentialFault.WRONG_AUDIENCE),
    "an audience that holds ours": (
        lambda it: SIGNER.sign(it.claims(aud=f"x{AUDIENCE}")),
        CredentialFault.WRONG_AUDIENCE,
    ),
    "another issuer": (
        lambda it: SIGNER.sign(it.claims(iss="https://evil.test/")),
        CredentialFault.WRONG_ISSUER,
    ),
    "an issuer that ours is part of": (
        lambda it: SIGNER.sign(it.claims(iss=f"{ISSUER}evil")),
        CredentialFault.WRONG_ISSUER,
    ),
    "no issuer": (lambda it: SIGNER.sign(it.claims(iss=None)), CredentialFault.WRONG_ISSUER),
    "no end": (lambda it: SIGNER.sign(it.claims(exp=None)), CredentialFault.WRONG_TIMES),
    "an end that is a text": (lambda it: SIGNER.sign(it.claims(exp="4102444800")), None),
    "an end that is true": (lambda it: SIGNER.sign(it.claims(exp=True)), CredentialFault.WRONG_TIMES),
    "an infinite end": (lambda it: SIGNER.sign(it.claims(exp=float("inf"))), CredentialFault.WRONG_TIMES),
    "no beginning": (lambda it: SIGNER.sign(it.claims(iat=None)), CredentialFault.WRONG_TIMES),
    "too long a life": (
        lambda it: SIGNER.sign(it.claims(life_s=MAX_LIFE_S + 1)),
        CredentialFault.LIFE_TOO_LONG,
    ),
    "begun in the future": (
        lambda it: SIGNER.sign(it.claims(iat=int(it.clock.at.timestamp()) + 31)),
        CredentialFault.WRONG_TIMES,
    ),
    "not valid yet": (
        lambda it: SIGNER.sign(it.claims(nbf=int(it.clock.at.timestamp()) + 31)),
        CredentialFault.WRONG_TIMES,
    ),
    "no subject": (lambda it: SIGNER.sign(it.claims(sub=None)), CredentialFault.NO_SUBJECT),
    "an empty subject": (lambda it: SIGNER.sign(it.claims(sub="")), CredentialFault.NO_SUBJECT),
    "a claim that is no text": (lambda it: SIGNER.sign({**it.claims(), "sub": 7}), None),
    "nothing at all": (lambda _: "..", CredentialFault.MALFORMED),
    "no JSON": (lambda _: "AAAA.AAAA.AAAA", CredentialFault.MALFORMED),
    "a header that is a list": (lambda _: "W10.e30.AAAA", CredentialFault.MALFORMED),
    "no base64": (lambda _: "\udcff.\udcff.\udcff", CredentialFault.MALFORMED),
}


@pytest.mark.parametrize("kind", FORGERIES)
async def test_a_forgery_counts_for_nothing(kind: str, verification: Verification) -> None:
    make, reason = FORGERIES[kind]
    refusal = await verification.of(make(verification))
    assert isinstance(refusal, CredentialFault)
    assert refusal is (reason or refusal)


async def test_a_changed_claim_breaks_the_signature(verification: Verification) -> None:
    header, _, signature = SIGNER.sign(verification.claims()).split(".")
    changed = forged({}, verification.claims(subject="admin")).split(".")[1]
    assert await verification.of(f"{header}.{changed}.{signature}") is CredentialFault.WRONG_SIGNATURE


async def test_it_ends_with_the_tolerated_skew_although_it_was_accepted_before(
    verification: Verification,
) -> None:
    text = SIGNER.sign(verification.claims(life_s=600))
    assert await verification.accepts(text)
    verification.clock.pass_(600 + SKEW_S - 1)
    assert await verification.accepts(text)
    verification.clock.pass_(1)
    assert await verification.of(text) is CredentialFault.JWT_EXPIRED


async def test_the_same_bytes_are_verified_once(
    verification: Verification, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SIGNER.sign(verification.claims())
    assert await verification.accepts(text)
    monkeypatch.setattr("tidemill.security.web_tokens.jwt.decode", None)
    assert await verification.accepts(text)
    assert not await verification.accepts(text[:-4] + "AAAA")


async def test_what_a_withdrawn_key_signed_counts_no_more(verification: Verification) -> None:
    text = SIGNER.sign(verification.claims())
    assert await verification.accepts(text)
    verification.source.content = key_set(Signer("ES256", "k2"))
    verification.clock.pass_(301)
    await verification.of(text)  # it begins to read, and another request does not wait for that
    await verification.verifier._keys._reading.wait()
    assert await verification.of(text) is CredentialFault.UNKNOWN_KEY


async def test_without_keys_it_is_not_the_clients_fault(verification: Verification) -> None:
    verification.source.content = None
    with pytest.raises(RequestRefused, match="cannot be read") as caught:
        await verification.of(SIGNER.sign(verification.claims()))
    assert (caught.value.code, caught.value.retry_after_s) == ("KEYS_AWAY", 60.0)


@pytest.fixture
def trap() -> Iterator[socket.socket]:
    """A socket that listens; nobody has a reason to connect to it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "iss"])
async def test_an_address_or_key_in_a_token_is_never_used(
    name: str, trap: socket.socket, verification: Verification
) -> None:
    url = f"http://127.0.0.1:{trap.getsockname()[1]}/keys"
    evil = Signer("ES256", "evil")
    value: Any = {"jwk": evil.described(), "x5c": ["AAAA"]}.get(name, url)
    for kid in ("evil", "k1"):
        said = {**verification.claims(), **({"iss": url} if name == "iss" else {})}
        header = {} if name == "iss" else {name: value}
        assert not await verification.accepts(evil.sign(said, kid=kid, **header))
    with pytest.raises(BlockingIOError):
        trap.accept()


async def test_a_jwt_gives_no_rights_but_those_of_the_table() -> None:
    world = World()
    await world.management.add("billing", PrincipalKind.SERVICE, subject="client-7")
    await world.management.grant("billing", "ticks", ["read"])
    verifier = WebTokenVerifier(SigningKeys(MemoryKeySet(key_set(SIGNER)), world.clock), CONFIG, world.clock)
    process = world.process(web_tokens=verifier)
    rich: dict[str, Any] = {
        "scope": "*",
        "roles": ["admin"],
        "grants": {"*": ["delete"]},
        "kind": "development",
    }
    principal = await process.authenticate(
        "Bearer " + SIGNER.sign(claims(world.clock.at, "client-7", **rich))
    )
    assert principal.name == "billing"
    assert {name: set(grant.verbs) for name, grant in principal.grants.items()} == {"ticks": {"read"}}


def counted(reason: CredentialFault) -> float:
    return REGISTRY.get_sample_value("tidemill_unauthenticated_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize("subject", ["nobody", "billing", "development", "*"])
async def test_a_subject_that_no_principal_has_is_nobody(subject: str) -> None:
    """`billing` is the name of one that JWTs call otherwise."""
    world = World()
    await world.management.add("billing", PrincipalKind.SERVICE, subject="client-7")
    verifier = WebTokenVerifier(SigningKeys(MemoryKeySet(key_set(SIGNER)), world.clock), CONFIG, world.clock)
    process = world.process(web_tokens=verifier)
    before = counted(CredentialFault.UNKNOWN_SUBJECT)
    with pytest.raises(RequestRefused):
        await process.authenticate("Bearer " + SIGNER.sign(claims(world.clock.at, subject)))
    assert counted(CredentialFault.UNKNOWN_SUBJECT) == before + 1


async def test_a_revoked_principal_is_refused_although_its_jwt_is_kept() -> None:
    world = World()
    await world.management.add("billing", PrincipalKind.SERVICE)
    verifier = WebTokenVerifier(SigningKeys(MemoryKeySet(key_set(SIGNER)), world.clock), CONFIG, world.clock)
    process = world.process(web_tokens=verifier)
    header = "Bearer " + SIGNER.sign(claims(world.clock.at))
    assert (await process.authenticate(header)).name == "billing"
    await world.management.revoke("billing")
    world.clock.pass_(5)
    with pytest.raises(RequestRefused, match="no valid credentials"):
        await process.authenticate(header)


async def test_a_process_without_key_set_takes_no_jwt() -> None:
    world = World()
    await world.management.add("billing", PrincipalKind.SERVICE)
    before = counted(CredentialFault.NO_JWT_EXPECTED)
    with pytest.raises(RequestRefused):
        await world.process().authenticate("Bearer " + SIGNER.sign(claims(world.clock.at)))
    assert counted(CredentialFault.NO_JWT_EXPECTED) == before + 1
