"""Requests: an id says whose it is and for exactly which rows, and another registry's copies are not superseded."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from sqlalchemy import Column, DateTime, MetaData, Table

from tidemill.domain.archive.messages import ArchivalStatus
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState, SliceId, Source
from tidemill.retention import requests
from tidemill.retention.slices import Slice

START = datetime(2010, 1, 1, tzinfo=UTC)
ID = SliceId("public.ticks", START, START + timedelta(seconds=10))
ONE = Slice(ID, ArchiveState.SEALED, START, Source.CHUNK, "_timescaledb_internal._hyper_1_1_chunk", seal=1)
TICKS = Table("ticks", MetaData(schema="public"), Column("time", DateTime(timezone=True)))
POLICY = Retention(table=TICKS, after=timedelta(days=1))


def named(*slices: Slice, registry: str = "a") -> str:
    return requests.request_id(registry, slices)


def test_the_same_request_has_the_same_id_whatever_else_is_known_of_it() -> None:
    later = replace(ONE, state=ArchiveState.REQUESTED, attempt=3, since=START + timedelta(days=1))
    cet = timezone(timedelta(hours=1))
    elsewhere = replace(ONE, id=replace(ID, start=ID.start.astimezone(cet), end=ID.end.astimezone(cet)))
    assert named(ONE) == named(later) == named(elsewhere)
    assert str(UUID(named(ONE))) == named(ONE)


@pytest.mark.parametrize(
    "other",
    [
        replace(ONE, seal=2),
        replace(ONE, id=replace(ID, generation=2)),
        replace(ONE, id=replace(ID, table="public.tocks")),
        replace(
            ONE, id=replace(ID, start=ID.start + timedelta(seconds=10), end=ID.end + timedelta(seconds=10))
        ),
        replace(ONE, id=replace(ID, end=ID.end + timedelta(microseconds=1))),
        replace(ONE, id=replace(ID, start=ID.start + timedelta(microseconds=1))),
    ],
    ids=["seal", "generation", "table", "ten seconds later", "end", "start"],
)
def test_other_rows_have_another_id(other: Slice) -> None:
    assert named(ONE) != named(other)
    assert other.id == ID or str(ONE.id) != str(other.id)
    assert named(ONE)[:8] == named(other)[:8]


def test_another_registry_has_another_id_and_says_so_at_the_beginning() -> None:
    assert named(ONE)[:8] != named(ONE, registry="b")[:8]
    assert named(ONE)[8:] != named(ONE, registry="b")[8:]


def request(event_id: str, superseded: Sequence[str]) -> tuple[str, ...]:
    which = replace(ONE, event_id=event_id, attempt=1, superseded=tuple(superseded))
    return requests.request([which], POLICY, START, lambda _: "select 1").supersedes


def test_what_the_original_of_a_clone_asked_for_is_not_superseded() -> None:
    originals, own = named(ONE), named(replace(ONE, seal=2), registry="b")
    assert request(named(replace(ONE, seal=3), registry="b"), [originals, own]) == (own,)


def test_a_request_says_since_when_rows_are_kept_and_when_it_is_sent_again() -> None:
    soon, later = START + timedelta(minutes=15), START + timedelta(minutes=30)
    slices = [
        replace(ONE, event_id="a", attempt=1, sealed_at=START, deadline=later),
        replace(ONE, event_id="a", attempt=1, sealed_at=later, deadline=soon),
    ]
    told = requests.request(slices, POLICY, START, lambda _: "select 1")
    assert told.deadline_at == soon
    assert [each.sealed_at for each in told.chunks] == [START, later]


def test_what_is_settled_has_no_deadline() -> None:
    told = requests.settled("a", [replace(ONE, deadline=START)], ArchivalStatus.COMPLETED, START, None)
    assert told.deadline_at is None
