"""The statement that finds an account, word by word."""

from __future__ import annotations

from dataclasses import replace

from tests.support.engine.sign_in_contexts import badges, members
from tidemill.domain.state import SignInColumns
from tidemill.storage.database.table_sql import select_account


def test_an_account_is_found_by_the_index_of_its_folded_name() -> None:
    assert select_account(members.state, SignInColumns("login", "pass_hash", "may_enter")) == (
        "select t.id as key, t.pass_hash as password_hash, t.may_enter as is_active from public.members t "
        "where t.login_folded = $1 and not t.deleted"
    )


def test_without_a_mark_every_row_in_force_is_active_and_awkward_names_are_quoted() -> None:
    columns = SignInColumns("order", "order")
    assert select_account(badges.state, columns) == (
        'select t.id as key, t."order" as password_hash, true as is_active from public.badges t '
        "where t.order_folded = $1 and not t.deleted"
    )
    assert select_account(replace(badges.state, deleted=None), columns).endswith("where t.order_folded = $1")
