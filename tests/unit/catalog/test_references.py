"""Contexts refer to each other by name; a deployment knows whether there is such a one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.codecs import JsonCodec
from tests.support.engine.entity_contexts import ACCOUNTS, FOLDERS, JOBS, accounts, jobs, linked
from tidemill.api import ContractError, Reference
from tidemill.commands.handlers import DecideHandler


def test_both_sides_of_a_reference_know_each_other() -> None:
    accounts_stream, jobs_stream = linked(ACCOUNTS, JOBS)
    assert jobs_stream.others == {"accounts": accounts.state}
    ((child, reference),) = accounts_stream.referring["accounts"]
    assert (child, reference.column) == (jobs.state, "account_id")


def test_a_family_refers_to_its_own_states_without_help() -> None:
    (stream,) = linked(FOLDERS)
    assert (stream.others, stream.referring) == ({}, {})


def test_a_reference_to_what_is_not_chosen_is_refused() -> None:
    with pytest.raises(ContractError, match="jobs of jobs refers to accounts, which no context"):
        linked(JOBS)


def test_two_aggregates_with_one_table_are_refused() -> None:
    with pytest.raises(ContractError, match="two aggregates have a table accounts"):
        linked(ACCOUNTS, replace(ACCOUNTS, aggregate="others"))


def test_a_reference_inside_an_aggregate_is_only_to_what_a_row_belongs_to() -> None:
    """Its row may be another lane's, and the fold reads it without a lock."""
    refers = (Reference("account_id", to="jobs", code="NO_JOB"),)
    with pytest.raises(ContractError, match=r"jobs\.account_id refers to jobs of the same aggregate"):
        replace(JOBS, commands=(), state=replace(jobs.state, refers=refers))


def test_states_are_told_apart_by_what_they_are() -> None:
    """A copy of a state is that state."""
    (stream,) = linked(replace(FOLDERS, family=tuple(replace(state) for state in FOLDERS.family)))
    handler = DecideHandler(stream, JsonCodec(stream), 1_000_000)
    assert set(handler._numbers.values()) == {0, 1}
