"""Who sends a request: a token in force of a principal in force, or nobody; and all refusals read alike."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import generate_latest

from tests.fakes.key_sets import MemoryKeySet
from tests.support.counting import counted_calls
from tests.support.security.principals import World
from tests.support.security.signers import AUDIENCE, ISSUER, Signer, claims, key_set
from tidemill.domain.errors import RequestRefused, UsageError
from tidemill.runtime.telemetry.logging import configure_logging
from tidemill.runtime.telemetry.metrics import REGISTRY
from tidemill.security.authenticator import Authenticator
from tidemill.security.credential_faults import CredentialFault
from tidemill.security.key_sets import SigningKeys
from tidemill.security.principals import PrincipalKind
from tidemill.security.tokens import Token
from tidemill.security.web_tokens import WebTokenConfig, WebTokenVerifier


@pytest.fixture
async def world() -> World:
    """A deployment with one service, `billing`."""
    made = World()
    await made.management.add("billing", PrincipalKind.SERVICE)
    return made


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged, at every level."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("DEBUG", "json", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def counted(reason: CredentialFault) -> float:
    return REGISTRY.get_sample_value("tidemill_unauthenticated_total", {"reason": reason}) or 0.0


async def refusal(process: Authenticator, header: str | None) -> tuple[str, str]:
    """Return what the one who asks learns."""
    with pytest.raises(RequestRefused) as caught:
        await process.authenticate(header)
    return str(caught.value.code), str(caught.value)


async def test_a_token_is_its_principal(world: World) -> None:
    await world.management.grant("billing", "ticks", ["read"], ["price"])
    issued = await world.management.issue_token("billing")
    principal = await world.process().authenticate(f"Bearer {issued.token}")
    assert (principal.name, principal.kind) == ("billing", "service")
    assert principal.hidden("ticks") == {"price"}
    for spelt in ("bearer", "BEARER", "Bearer "):
        assert (await world.process().authenticate(f"{spelt} {issued.token}")).name == "billing"


async def test_whatever_is_wrong_the_one_who_asks_reads_the_same(world: World) -> None:
    management, process = world.management, world.process()
    good, expired, revoked = [
        await management.issue_token("billing", expires_days=days) for days in (9, 1, 9)
    ]
    await management.add("old", PrincipalKind.PERSON)
    of_revoked = await management.issue_token("old")
    await management.revoke_token(revoked.id)
    await management.revoke("old")
    world.clock.pass_(86_400)
    stranger = Token.fresh().text
    cases: dict[CredentialFault, list[str | None]] = {
        CredentialFault.MISSING: [None, ""],
        CredentialFault.MALFORMED: [
            "Bearer",
            "Bearer ",
            f"Basic {good.token}",
            good.token,
            f"Bearer {good.token[:-1]}",
            f"Bearer {good.token}x",
            f"Bearer {good.token} {good.token}",
            "Bearer " + "a" * 9_000,
            "Bearer \udcff",
            "Bearer tm_\udcff",
            f"Bearer {good.token.upper()}",
            f"Bearer {good.token[:-8]}{'A' * 8}",
        ],
        CredentialFault.UNKNOWN_TOKEN: [f"Bearer {stranger}"],
        CredentialFault.TOKEN_EXPIRED: [f"Bearer {expired.token}"],
        CredentialFault.TOKEN_REVOKED: [f"Bearer {revoked.token}", f"Bearer {of_revoked.token}"],
    }
    answers = set()
    for reason, headers in cases.items():
        before = counted(reason)
        answers |= {await refusal(process, header) for header in headers}
        assert counted(reason) == before + len(headers), reason
    assert answers == {("UNAUTHENTICATED", "no valid credentials were sent")}
    assert (await process.authenticate(f"Bearer {good.token}")).name == "billing"


async def test_a_known_id_with_another_secret_is_unknown(world: World) -> None:
    """Also if its checksum is right."""
    issued = await world.management.issue_token("billing")
    other = Token.fresh()
    body = f"tm_{issued.id}_{other.text[14:57]}"
    from tidemill.security.tokens import _checksum

    before = counted(CredentialFault.UNKNOWN_TOKEN)
    await refusal(world.process(), f"Bearer {body}{_checksum(body)}")
    assert counted(CredentialFault.UNKNOWN_TOKEN) == before + 1


async def test_a_revocation_is_in_force_in_every_process_within_five_seconds(world: World) -> None:
    issued = await world.management.issue_token("billing")
    one, other = world.process(), world.process()
    for process in (one, other):
        assert (await process.authenticate(f"Bearer {issued.token}")).name == "billing"
    await world.management.revoke_token(issued.id)
    world.clock.pass_(5)
    for process in (one, other):
        await refusal(process, f"Bearer {issued.token}")


async def test_a_token_ends_to_the_moment_without_reading(world: World) -> None:
    issued = await world.management.issue_token("billing", expires_days=1)
    process = world.process()
    world.clock.pass_(86_399)
    assert (await process.authenticate(f"Bearer {issued.token}")).name == "billing"
    asked = world.store.asked
    world.clock.pass_(1)
    await refusal(process, f"Bearer {issued.token}")
    assert world.store.asked == asked


async def test_a_rotated_token_ends_after_its_overlap(world: World) -> None:
    old = await world.management.issue_token("billing")
    new = await world.management.issue_token("billing", rotate=True, overlap_hours=2)
    assert dict(new.ending) == {old.id: world.clock.at.replace(hour=14)}
    process = world.process()
    world.clock.pass_(7_199)
    assert (await process.authenticate(f"Bearer {old.token}")).name == "billing"
    world.clock.pass_(1)
    await refusal(process, f"Bearer {old.token}")
    assert (await process.authenticate(f"Bearer {new.token}")).name == "billing"


async def test_a_hit_costs_little_and_asks_nobody(world: World) -> None:
    """Counted, not timed: calls of functions for one request."""
    issued = await world.management.issue_token("billing")
    process = world.process()
    header = f"Bearer {issued.token}"
    await process.authenticate(header)
    asked = world.store.asked
    with counted_calls() as calls:
        for _ in range(100):
            await process.authenticate(header)
        spent = calls()
    assert spent / 100 < 40
    assert world.store.asked == asked


async def test_the_development_principal_ends_with_the_first_principal_for_good() -> None:
    world = World()
    process = world.process(development=True)
    for header in (None, "Bearer anything", f"Bearer {Token.fresh().text}"):
        assert (await process.authenticate(header)).kind is PrincipalKind.DEVELOPMENT
    assert await process.serves_development()
    await world.management.add("billing", PrincipalKind.SERVICE)
    world.clock.pass_(5)
    await refusal(process, None)
    assert not await process.serves_development()
    await world.management.revoke("billing")
    world.clock.pass_(5)
    await refusal(process, None)
    await refusal(world.process(development=True), None)


async def test_elsewhere_and_where_jwts_are_accepted_there_is_no_development_principal() -> None:
    world = World()
    await refusal(world.process(), None)
    config = WebTokenConfig(issuer=ISSUER, audience=AUDIENCE)
    verifier = WebTokenVerifier(SigningKeys(MemoryKeySet(), world.clock), config, world.clock)
    await refusal(world.process(web_tokens=verifier, development=True), None)


async def test_without_the_database_nobody_is_the_development_principal() -> None:
    world = World()
    world.store.is_away = True
    with pytest.raises(RequestRefused) as caught:
        await world.process(development=True).authenticate(None)
    assert caught.value.code == "DATABASE_AWAY"


async def test_a_flood_of_guesses_fills_no_log(world: World, written: io.StringIO) -> None:
    process = world.process()
    for _ in range(1_000):
        await refusal(process, f"Bearer {Token.fresh().text}")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("request_unauthenticated", "unknown_token")
    ] * 3


async def test_credentials_are_in_no_log_metric_error_or_repr(world: World, written: io.StringIO) -> None:
    """Whatever becomes of them: accepted, refused for every reason, or sent while the database is unavailable."""
    signer = Signer()
    config = WebTokenConfig(issuer=ISSUER, audience=AUDIENCE)
    source = MemoryKeySet(key_set(signer))
    verifier = WebTokenVerifier(SigningKeys(source, world.clock), config, world.clock)
    process = world.process(web_tokens=verifier)
    issued = await world.management.issue_token("billing", label="ci")
    valid = signer.sign(claims(world.clock.at))
    sent = [issued.token, valid, Token.fresh().text, valid[:-3] + "AAA", issued.token[:-1] + "_"]
    seen: list[object] = [issued, world.entries, await world.overview.show("billing")]
    for step in (world.management.revoke_token(issued.id), world.management.revoke("billing"), None):
        for text in sent:
            try:
                seen.append(await process.authenticate(f"Bearer {text}"))
            except RequestRefused as error:
                seen += [error, error.__dict__, error.__cause__, error.__context__]
        if step is not None:
            await step
        world.clock.pass_(5)
        source.content = None
    with pytest.raises(UsageError) as caught:
        await world.management.revoke_token(issued.token)
    world.store.is_away = True
    world.clock.pass_(61)
    seen += [caught.value, *[await refusal(process, f"Bearer {text}") for text in sent]]
    seen += [vars(process), vars(verifier), vars(verifier._keys)]
    everything = repr(seen) + written.getvalue() + generate_latest(REGISTRY).decode()
    for text in sent:
        secret = text[14:] if text.startswith("tm_") else text.split(".")[2]
        assert secret not in everything
    assert "request_unauthenticated" in written.getvalue()
