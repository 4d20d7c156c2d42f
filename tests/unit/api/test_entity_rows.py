"""Rows of entities are filled in place, and only those that their events have just made."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.engine.entity_contexts import Commands, accounts
from tidemill.api import Message
from tidemill.api.entities.declaration import entity
from tidemill.api.entities.options import Extra
from tidemill_devkit.testing import NOW


def event(verb: str, **values: Any) -> Any:
    made = {"Create": accounts.messages.created, "Update": accounts.messages.updated}
    return made[verb].of(Commands(accounts)(verb, "a1", **values))


def test_an_event_leaves_the_row_before_it_unchanged() -> None:
    created = accounts.state.after(None, event("Create", username="Ann"), NOW)
    held = dict(vars(created))
    later = NOW + timedelta(hours=1)
    updated = accounts.state.after(created, event("Update", full_name="Ann B"), later)
    assert vars(created) == held
    assert (created.version, created.created_at, created.updated_at) == (1, NOW, NOW)
    assert (updated.version, updated.created_at, updated.updated_at) == (2, NOW, later)
    assert (updated.full_name, updated.username_folded) == ("Ann B", "ann")


@pytest.mark.parametrize("own", [True, False])
def test_rows_that_a_contexts_own_code_may_make_are_copied(own: bool) -> None:
    class Thing(Message):
        """A thing."""

        label: str

    more = Extra(evolve=lambda row, _event, _at: row) if own else None
    assert entity(Thing, more=more).state.new_rows is not own
