"""What a declaration says of its tables without any server."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Column, DateTime, Index, Integer, MetaData, Numeric, String, Table, func
from sqlalchemy.dialects.postgresql import ENUM, TIMESTAMP

from tests.support.engine.entity_contexts import FOLDERS, ITEMS, TICKETS
from tidemill.api import CommandBase, Context, EventBase, Label, Retention, append, fact_table
from tidemill.domain.stream import Stream
from tidemill.storage.catalog.declared import TableUse, declared_table, uses_of_stream, views_of_stream


class RecordNoise(CommandBase):
    """Record a noise."""

    place: Label
    time: datetime
    ended: datetime | None = None


class NoiseRecorded(EventBase):
    """A noise was recorded."""

    place: str
    time: datetime
    ended: datetime | None = None


def context(table: Table, retention: Retention | None = None) -> Context:
    return Context(
        aggregate="noises",
        key=lambda command: command.place,
        commands=(append(RecordNoise, into=table, event=NoiseRecorded),),
        retention=retention,
    )


@pytest.mark.parametrize(
    ("first", "time_column"), [("time", "time"), ("place", None), ("ended", None), ((), None)]
)
def test_facts_are_divided_by_a_time_that_comes_first_and_every_row_has(
    first: str, time_column: str | None
) -> None:
    (use,) = uses_of_stream(Stream.of(context(fact_table("noises", RecordNoise, first=first))))
    assert (use.time_column, use.archived) == (time_column, False)


def test_a_retention_says_by_what_and_that_rows_leave() -> None:
    table = fact_table("noises", RecordNoise)
    retention = Retention(table=table, after=timedelta(days=30))
    (use,) = uses_of_stream(Stream.of(context(table, retention)))
    assert (use.time_column, use.archived) == ("time", True)


def test_a_table_without_columns_is_divided_by_nothing() -> None:
    (use,) = uses_of_stream(Stream.of(context(Table("noises", MetaData()))))
    assert use.time_column is None


def test_types_are_written_as_a_server_would_be_told() -> None:
    table = Table(
        "things",
        MetaData(),
        Column("a", String(20)),
        Column("b", Numeric(18, 4)),
        Column("c", DateTime(timezone=True)),
        Column("d", TIMESTAMP(timezone=True, precision=3)),
        Column("e", ENUM("good", name="Mood", schema="public")),
        Column("f"),
        Column("order", Integer),
    )
    declared = declared_table(TableUse(table, frozenset(), frozenset(), frozenset()))
    assert [(column.name, column.type and str(column.type)) for column in declared.columns] == [
        ("a", "varchar(20)"),
        ("b", "numeric(18,4)"),
        ("c", "timestamp with time zone"),
        ("d", "TIMESTAMP(3) WITH TIME ZONE"),
        ("e", 'public."Mood"'),
        ("f", None),
        ('"order"', "integer"),
    ]


def test_indexes_keep_their_method_their_expressions_and_their_rows() -> None:
    (use,) = uses_of_stream(Stream.of(ITEMS))
    indexes = {index.name: index.written for index in declared_table(use).indexes}
    assert indexes == {
        "items_data": "using gin (data)",
        "items_data_type": "((data ->> 'type'))",
        "items_order_name": '("order", name)',
        "items_name_unique": "(name_folded) where NOT deleted",
        "items_service_name_pin_unique": "(service_name, pin) where NOT deleted",
    }


def test_an_index_is_drafted_in_its_order_and_compared_by_its_columns() -> None:
    table = fact_table("noises", RecordNoise, index=(("place", "time desc"),))
    Index("by_end", table.c.ended.asc(), func.lower(table.c.place).desc())
    (use,) = uses_of_stream(Stream.of(context(table)))
    assert [(each.name, each.columns, each.written) for each in declared_table(use).indexes] == [
        ("by_end", ("ended", "(lower(place))"), "(ended, (lower(place)) desc)"),
        ("noises_place_time", ("place", "time"), "(place, time desc)"),
    ]


def test_a_view_leaves_out_what_is_hidden_and_what_is_not_in_force() -> None:
    (view,) = views_of_stream(Stream.of(ITEMS))
    assert (view.name, view.source, view.where) == ("public.items_view", "public.items", "not deleted")
    assert view.left_out == {"pin", "name_folded", "deleted"}
    assert [each.view for each in views_of_stream(Stream.of(FOLDERS))] == [
        "folders_view",
        "folder_files_view",
    ]


def test_a_view_leaves_out_what_is_over_when_it_is_read() -> None:
    (view,) = views_of_stream(Stream.of(TICKETS))
    assert view.where == "not deleted and (ends_at is null or ends_at > now())"
    (use,) = uses_of_stream(Stream.of(TICKETS))
    assert [index.written for index in declared_table(use).indexes] == ["(ends_at) where NOT deleted"]


def test_a_state_that_shows_nothing_has_no_view() -> None:
    (state,) = ITEMS.states
    assert views_of_stream(replace(Stream.of(ITEMS), states=(replace(state, view=None),))) == []
