"""`tidemill principals` on a real database: docs/security.md, typed to the letter, and what it leaves out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.clients.walkthrough import Command, agrees, steps
from tests.support.servers.installation import Installation
from tidemill.security.tokens import is_well_formed

PAGE = Path(__file__).parents[3] / "docs/security.md"


def typed(installation: Installation, command: str) -> str:
    """Return what a command of the page prints, as a terminal shows it."""
    program, *arguments = shlex.split(command)
    assert program == "tidemill"
    said = installation(*arguments, expect=None)
    return said.out + said.err


def test_the_page_is_true(installation: Installation) -> None:
    commands = [step for step in steps(PAGE.read_text()) if isinstance(step, Command)]
    for command in commands:
        printed = typed(installation, command.text)
        assert agrees(command.printed, printed), f"$ {command.text}\n{printed}"
    assert len(commands) > 10


def test_every_verb_answers_a_program(installation: Installation) -> None:
    added = installation("principals", "add", "billing", "--service", "--json").json()
    assert (added["action"], added["principal"], added["before"]) == ("add", "billing", None)
    granted = installation("principals", "grant", "billing", "*", "--verbs", "read", "--json").json()
    assert granted["after"]["verbs"] == ["read"]
    issued = installation("principals", "token", "billing", "--json").json()
    assert is_well_formed(issued["token"])
    revoked = installation("principals", "token", "--revoke", issued["id"], "--json").json()
    assert revoked["action"] == "revoke_token"
    shown = installation("principals", "show", "billing", "--json").json()
    assert [token["id"] for token in shown["tokens"]] == [issued["id"]]
    assert issued["token"][14:] not in str(shown)
    assert installation("principals", "revoke", "billing", "*", "--json").json()["after"] is None
    assert installation("principals", "revoke", "billing", "--json").json()["action"] == "revoke"
    (row,) = installation("principals", "list", "--json").json()
    assert row["revoked_at"] is not None
    for answer in (added, granted, revoked):
        assert answer["actor"]


def test_a_wrong_call_says_what_is_right(installation: Installation) -> None:
    for arguments, text in (
        (["add", "billing"], "--service or --person"),
        (["add", "billing", "--service", "--person"], "--service or --person"),
        (["token"], "--revoke ID"),
        (["token", "billing", "--revoke", "x"], "--revoke ID"),
        (["show", "billing"], "tidemill principals add billing"),
        (["add", "bill ing", "--service"], "letters, digits"),
    ):
        assert text in installation("principals", *arguments, expect=2).err
    assert "development principal" in installation("principals", "list").err
    error = installation("principals", "grant", "x", "tick", "--verbs", "read", "--json", expect=2).err
    assert '"code": "UNKNOWN_NAME"' in error


def test_no_table_has_a_token(installation: Installation) -> None:
    installation("principals", "add", "billing", "--service")
    token = installation("principals", "token", "billing").out.strip()
    rows = installation.fetch("select t::text as row from tm.principal_token t")
    assert len(rows) == 1
    assert not re.search(re.escape(token[14:-4]), rows[0]["row"])


def test_each_change_is_in_the_journal_with_before_and_after(installation: Installation) -> None:
    installation("principals", "add", "billing", "--service")
    installation("principals", "grant", "billing", "*", "--verbs", "read")
    installation("principals", "grant", "billing", "*", "--verbs", "delete")
    issued = installation("principals", "token", "billing", "--json").json()
    installation("principals", "token", "--revoke", issued["token"], expect=2)
    installation("principals", "revoke", "billing")
    rows = installation.fetch("select kind, action, detail::text as detail, principal from tm.journal")
    changes = [row["action"] for row in rows if row["kind"] == "change"]
    assert sorted(changes) == sorted(
        f"principals {verb}" for verb in ("add", "grant", "grant", "issue_token", "revoke")
    )
    granted = [
        row["detail"] for row in rows if row["action"] == "principals grant" and "before" in row["detail"]
    ]
    assert len(granted) == 1
    assert all(text in granted[0] for text in ("verbs: [read]", "verbs: [delete]", "billing"))
    assert issued["token"][14:] not in str(rows)


@pytest.mark.parametrize("verb", [["add", "b", "--service"], ["revoke", "a"], ["token", "a"]])
def test_a_login_that_does_not_own_the_tables_changes_nothing(
    installation: Installation, verb: list[str]
) -> None:
    """As the service's login, which processes that serve have."""
    installation("principals", "add", "a", "--service")
    installation.execute("grant tidemill_service to current_user")
    options = {"TIDEMILL_DATABASE_URL": f"{installation.database}?options=-c%20role%3Dtidemill_service"}
    narrow = Installation({**installation.environment, **options}, installation.folder)
    assert "permission denied" in narrow("principals", *verb, expect=None).err
    (row,) = narrow("principals", "list", "--json").json()
    assert (row["name"], row["tokens"], row["revoked_at"]) == ("a", 0, None)
