"""What operators decide about principals, what they may not, and what the journal gets to know of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.security.principals import World
from tidemill.domain.errors import UsageError
from tidemill.security.principals import PrincipalKind, Verb
from tidemill.security.tokens import is_well_formed

SERVICE, PERSON = PrincipalKind.SERVICE, PrincipalKind.PERSON


@pytest.fixture
async def world() -> World:
    """A deployment with one service, `billing`."""
    made = World()
    await made.management.add("billing", SERVICE)
    return made


async def refused(step: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        await step
    return caught.value


async def test_a_new_principal_may_do_nothing(world: World) -> None:
    shown = await world.overview.show("billing")
    assert (shown.kind, shown.grants, shown.tokens) == ("service", (), [])


@pytest.mark.parametrize("name", ["", "-a", "a b", "a\n", "*", "é", "x" * 101, "a/b", "a'b", "\udcff"])
async def test_a_name_that_would_be_read_wrongly_is_refused(name: str, world: World) -> None:
    assert "cannot name a principal" in str(await refused(world.management.add(name, SERVICE)))


async def test_the_development_principal_can_be_nobody_else(world: World) -> None:
    assert (await refused(world.management.add("development", PERSON))).code == "NAME_IN_USE"


async def test_a_name_is_given_once(world: World) -> None:
    error = await refused(world.management.add("billing", PERSON))
    assert (error.code, str(error)) == ("NAME_IN_USE", "there is a principal billing: choose another name")


async def test_no_two_principals_are_one_for_a_jwt(world: World) -> None:
    assert "those of billing" in str(await refused(world.management.add("other", SERVICE, subject="billing")))
    await world.management.add("ann", PERSON, subject="auth0|1")
    assert "those of ann" in str(await refused(world.management.add("auth0-1", PERSON, subject="auth0|1")))
    await world.management.revoke("ann")
    await world.management.add("anna", PERSON, subject="auth0|1")
    taken_back = world.management.add("ann", PERSON, subject="auth0|1", reinstate=True)
    assert "those of anna" in str(await refused(taken_back))


@pytest.mark.parametrize("subject", ["", "x" * 256, "a\nb"])
async def test_a_subject_that_no_jwt_has_is_refused(subject: str, world: World) -> None:
    assert "a subject has" in str(await refused(world.management.add("ann", PERSON, subject=subject)))


async def test_a_grant_takes_the_place_of_the_one_before(world: World) -> None:
    await world.management.grant("billing", "ticks", ["create", "read", "read"], ["volume", "price", "price"])
    entry = await world.management.grant("billing", "ticks", [" read "])
    (row,) = (await world.overview.show("billing")).grants
    assert (row.collection, row.verbs, row.hidden) == ("ticks", ("read",), ())
    assert entry.before == {
        "principal": "billing",
        "collection": "ticks",
        "verbs": ("read", "create"),
        "hidden": ("price", "volume"),
    }


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (("nobody", "ticks", ["read"]), ("billing",)),
        (("billing", "tick", ["read"]), ("*", "ticks", "users")),
        (("billing", "ticks", ["write"]), tuple(Verb)),
        (("billing", "ticks", ["read"], ["email"]), ("price", "source", "volume")),
        (("billing", "*", ["read"], ["id"]), ("email", "price", "source", "username", "volume")),
    ],
)
async def test_what_is_unknown_is_refused_with_the_choices(
    arguments: Any, choices: tuple[str, ...], world: World
) -> None:
    error = await refused(world.management.grant(*arguments))
    assert (error.code, error.fields["choices"]) == ("UNKNOWN_NAME", choices)
    assert "choose one of" in str(error)


@pytest.mark.parametrize("verbs", [[], [""], [" ", ""]])
async def test_a_grant_of_nothing_is_refused(verbs: list[str], world: World) -> None:
    assert "at least one verb" in str(await refused(world.management.grant("billing", "ticks", verbs)))


async def test_operate_is_granted_on_the_whole_deployment(world: World) -> None:
    assert "whole deployment" in str(await refused(world.management.grant("billing", "ticks", ["operate"])))
    await world.management.grant("billing", "*", ["operate", "read"], ["price"])
    (row,) = (await world.overview.show("billing")).grants
    assert row.verbs == ("read", "operate")


async def test_a_grant_ends_alone(world: World) -> None:
    assert "has no grant" in str(await refused(world.management.revoke("billing", "ticks")))
    await world.management.grant("billing", "ticks", ["read"])
    await world.management.grant("billing", "users", ["read"])
    await world.management.revoke("billing", "ticks")
    assert (await refused(world.management.revoke("billing", "ticks"))).fields["choices"] == ("users",)
    assert [row.collection for row in (await world.overview.show("billing")).grants] == ["users"]


async def test_a_revoked_principal_stays_and_has_nothing(world: World) -> None:
    await world.management.grant("billing", "ticks", ["read"])
    await world.management.issue_token("billing")
    entry = await world.management.revoke("billing")
    shown = await world.overview.show("billing")
    assert shown.revoked_at == world.clock.at
    assert shown.grants == ()
    assert [token["revoked_at"] for token in shown.tokens] == [world.clock.at]
    assert entry.before is not None
    assert [grant["collection"] for grant in entry.before["grants"]] == ["ticks"]
    for step in (
        world.management.revoke("billing"),
        world.management.grant("billing", "ticks", ["read"]),
        world.management.issue_token("billing"),
        world.management.add("billing", SERVICE),
    ):
        assert "--reinstate" in str(await refused(step))


async def test_a_revoked_principal_comes_back_as_what_it_was_and_with_nothing(world: World) -> None:
    assert "never revoked" in str(await refused(world.management.add("shop", SERVICE, reinstate=True)))
    await world.management.grant("billing", "ticks", ["read"])
    old = await world.management.issue_token("billing")
    await world.management.revoke("billing")
    error = await refused(world.management.add("billing", PERSON, reinstate=True))
    assert "can only be taken back as one: --service" in str(error)
    await world.management.add("billing", SERVICE, reinstate=True)
    shown = await world.overview.show("billing")
    assert (shown.revoked_at, shown.grants) == (None, ())
    assert [token["id"] for token in shown.tokens if token["revoked_at"]] == [old.id]


async def test_a_token_is_shown_once_and_ends_after_90_days(world: World) -> None:
    issued = await world.management.issue_token("billing", label="ci")
    assert is_well_formed(issued.token)
    assert issued.expires_at == world.clock.at + timedelta(days=90)
    (token,) = (await world.overview.show("billing")).tokens
    assert token["id"] == issued.id
    assert token["last_characters"] == issued.token[-4:]
    assert "hash" not in token


@pytest.mark.parametrize(
    "arguments",
    [
        {"expires_days": 0},
        {"expires_days": -1},
        {"expires_days": 3_651},
        {"expires_days": float("nan")},
        {"overlap_hours": -1},
        {"overlap_hours": float("inf")},
        {"label": "x" * 101},
        {"label": "a\nb"},
    ],
)
async def test_a_token_without_end_or_a_label_that_cannot_be_shown_is_refused(
    arguments: Any, world: World
) -> None:
    await refused(world.management.issue_token("billing", **arguments))
    assert (await world.overview.show("billing")).tokens == []


async def test_a_rotation_ends_the_tokens_of_its_label_and_lengthens_none(world: World) -> None:
    short = await world.management.issue_token("billing", label="ci", expires_days=0.5)
    long = await world.management.issue_token("billing", label="ci")
    other = await world.management.issue_token("billing", label="web")
    await world.management.add("shop", SERVICE)
    foreign = await world.management.issue_token("shop", label="ci")
    new = await world.management.issue_token("billing", label="ci", rotate=True)
    assert dict(new.ending) == {
        short.id: short.expires_at,
        long.id: world.clock.at + timedelta(hours=24),
    }
    assert foreign.id not in new.ending
    every = await world.management.issue_token("billing", rotate=True, overlap_hours=0)
    assert set(every.ending) == {short.id, long.id, other.id, new.id}
    summary = {row.name: row for row in await world.overview.summaries()}
    assert (summary["billing"].tokens, summary["shop"].tokens) == (1, 1)


async def test_a_token_is_revoked_by_its_id(world: World) -> None:
    issued = await world.management.issue_token("billing")
    await world.management.revoke_token(issued.id)
    assert "was revoked at 2026-12-01" in str(await refused(world.management.revoke_token(issued.id)))
    assert "principals show" in str(await refused(world.management.revoke_token("nothing")))


async def test_the_journal_gets_who_what_before_and_after_and_no_secret(world: World) -> None:
    await world.management.grant("billing", "ticks", ["read"])
    issued = await world.management.issue_token("billing")
    await world.management.issue_token("billing", rotate=True)
    await world.management.revoke_token(issued.id)
    await world.management.revoke("billing", "ticks")
    await world.management.revoke("billing")
    await world.management.add("billing", SERVICE, reinstate=True)
    assert [entry.action for entry in world.entries] == [
        "add",
        "grant",
        "issue_token",
        "rotate_tokens",
        "revoke_token",
        "revoke_grant",
        "revoke",
        "reinstate",
    ]
    assert {(entry.actor, entry.principal) for entry in world.entries} == {("olga", "billing")}
    assert world.entries[0].before is None
    assert world.entries[5].after is None
    assert issued.token[14:] not in repr(world.entries)
    assert "hash" not in repr(world.entries)


async def test_an_entry_has_a_short_form(world: World) -> None:
    await world.management.grant("billing", "ticks", ["read", "create"], ["price"])
    entry = await world.management.grant("billing", "ticks", ["read"])
    assert entry.detail == {
        "before": "principal: billing, collection: ticks, verbs: [read; create], hidden: [price]",
        "after": "principal: billing, collection: ticks, verbs: [read]",
    }
    added = world.entries[0]
    assert added.detail == {"after": "name: billing, kind: service, created_at: 2026-12-01T12:00:00+00:00"}
    for _ in range(30):
        await world.management.issue_token("billing", label="x" * 100)
    await world.management.issue_token("billing", rotate=True)
    assert {name: len(text) for name, text in world.entries[-1].detail.items()} == {
        "before": 200,
        "after": 200,
    }


async def test_what_cannot_be_journalled_is_not_changed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(World, "_keep", lambda _, entry: full(entry))
    with pytest.raises(OSError, match="no space"):
        await world.management.revoke("billing")
    assert (await world.overview.show("billing")).revoked_at is None


async def test_a_list_has_all_in_order(world: World) -> None:
    await world.management.add("ann", PERSON, subject="auth0|1")
    await world.management.revoke("ann")
    await world.management.issue_token("billing", expires_days=1)
    await world.management.issue_token("billing", expires_days=2)
    ann, billing = await world.overview.summaries()
    assert (ann.name, ann.subject, ann.revoked_at) == ("ann", "auth0|1", world.clock.at)
    assert (billing.tokens, billing.expires_at) == (2, world.clock.at + timedelta(days=2))
    world.clock.pass_(86_400)
    assert (await world.overview.summaries())[1].tokens == 1


async def test_without_any_principal_it_says_how_to_add_one() -> None:
    assert "tidemill principals add ann" in str(await refused(World().overview.show("ann")))
