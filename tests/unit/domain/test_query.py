"""Declared queries: what is refused before a database is asked, and where their parameters are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tidemill.domain.context import Context
from tidemill.domain.errors import ContractError
from tidemill.domain.query import Query


def query(sql: str, **changes: Any) -> Query:
    declared: dict[str, Any] = {
        "name": "users-by-name",
        "sql": sql,
        "returns": {"id": str},
        "reads": ("users",),
        "parameters": {"name": str, "since": datetime},
    }
    return Query(**declared | changes)


def test_a_parameter_is_found_wherever_a_value_may_be() -> None:
    sql = "select id from u where name=:name and at >= :since and at::date <> 'x' or name = (:name)"
    assert query(sql).statement == (
        "select id from u where name=$1::text and at >= $2::timestamptz and at::date <> 'x' or name = ($1::text)"
    )


@pytest.mark.parametrize(
    "untouched",
    [
        "':name'",
        "'it''s :name'",
        r"E'\' :name'",
        '":name"',
        '"a "" :name"',
        "$$ :name ; $$",
        "$tag$ $$ :name $tag$",
        "1 -- :name\n",
        "1 /* :name ; */",
        "'{}'::jsonb",
    ],
)
def test_what_is_in_quotes_and_comments_stays(untouched: str) -> None:
    assert query(f"select {untouched}, :name, :since").statement == (
        f"select {untouched}, $1::text, $2::timestamptz"
    )


@pytest.mark.parametrize(
    "sql",
    [
        "select :name, :since; select 1",
        "select 'open, :name, :since",
        'select "open, :name, :since',
        "select /* open :name, :since",
        "select /* a /* b */ c */ :name, :since",
        "select $1, :name, :since",
        "select $$ open, :name, :since",
        "select :other, :name, :since",
        "select a[1:other], :name, :since",
        "select :name",
    ],
)
def test_what_is_not_one_statement_with_its_parameters_is_refused(sql: str) -> None:
    with pytest.raises(ContractError):
        query(sql)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Users"},
        {"name": "users_by_name"},
        {"reads": ()},
        {"returns": {}},
        {"returns": {"id": object}},
        {"parameters": {"name": dict, "since": datetime}},
    ],
)
def test_a_wrong_declaration_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        query("select :name, :since", **changes)


def test_two_queries_of_a_context_have_two_names() -> None:
    twice = query("select :name, :since")
    with pytest.raises(ContractError, match="two queries named users-by-name"):
        Context(aggregate="users", key=str, commands=(), queries=(twice, twice))
