"""Tables made from classes: for the built-in contexts, those that their migrations make."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import pytest
from pydantic import Field
from sqlalchemy import Column, Integer, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import CreateIndex

from tidemill.api import fact_table, gin, member, named, row_table, words
from tidemill.contexts.connector_profiles.read_models import connector_directory
from tidemill.contexts.connector_profiles.state import connector_profiles
from tidemill.contexts.market_data import ticks
from tidemill.contexts.market_data.read_models import daily_bars, latest_quotes
from tidemill.contexts.news_articles import news_articles
from tidemill.contexts.system_logs import system_logs
from tidemill.contexts.telemetry_events import telemetry_events
from tidemill.domain.errors import ContractError
from tidemill.domain.messages import CommandBase, Label, Message

STAMPS = "id bigint, uuid uuid, created_at timestamptz, updated_at timestamptz, version bigint"
TABLES = {
    "public.market_data": (
        ticks,
        (
            "time timestamptz, symbol text, price float8, open float8?, high float8?, low float8?, volume float8?, "
            "source text, command_id uuid"
        ),
    ),
    "public.latest_quotes": (
        latest_quotes.table,
        (
            "symbol text*, time timestamptz, price float8, open float8?, high float8?, low float8?, volume float8?, "
            f"source text, lane integer, sequence bigint, {STAMPS}"
        ),
    ),
    "public.daily_bars": (
        daily_bars.table,
        (
            "symbol text*, day date*, open float8, high float8, low float8, close float8, volume numeric, "
            "ticks bigint, open_time timestamptz, open_lane integer, open_sequence bigint, "
            f"close_time timestamptz, close_lane integer, close_sequence bigint, {STAMPS}"
        ),
    ),
    "public.telemetry_events": (
        telemetry_events,
        "time timestamptz, source text, name text, value float8?, attributes jsonb, command_id uuid",
    ),
    "public.news_articles": (
        news_articles,
        (
            "time timestamptz, source text, url text, title text, body text, symbols jsonb, language text?, "
            "sentiment text?, sentiment_score float8?, command_id uuid"
        ),
    ),
    "public.system_logs": (
        system_logs,
        "time timestamptz, service text, level text, message text, details jsonb, command_id uuid",
    ),
    "public.connector_profiles": (
        connector_profiles,
        (
            "id text*, name text, service_name text, profile_data jsonb, active boolean, version bigint, "
            "created_at timestamptz, updated_at timestamptz"
        ),
    ),
    "public.connector_directory": (
        connector_directory.table,
        f"profile_id text*, name text, service_name text, type text?, active boolean, {STAMPS}",
    ),
}
"""The tables of the built-in contexts, as their migrations have them. `?`: may be null, `*`: of the primary key."""

SHORT = {"timestamp with time zone": "timestamptz", "double precision": "float8"}


DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it so


def described(table: Table) -> str:
    return ", ".join(map(_described, table.columns))


def _described(column: Column[Any]) -> str:
    kind = column.type.compile(DIALECT).lower()
    mark = "?" if column.nullable else "*" if column.primary_key else ""
    return f"{column.name} {SHORT.get(kind, kind)}{mark}"


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_built_in_contexts_follow_from_their_classes(name: str) -> None:
    table, expected = TABLES[name]
    assert isinstance(table, Table)
    assert described(table) == expected
    assert table.fullname == name


def test_a_field_may_name_the_type_of_its_column() -> None:
    Lane = Annotated[int, Integer()]  # noqa: N806  a type

    class Weigh(CommandBase):
        lane: Lane
        other: Lane | None = None
        text: Annotated[str | None, JSONB()] = None

    assert (
        described(fact_table("weights", Weigh))
        == "lane integer, other integer?, text jsonb?, command_id uuid"
    )


def test_what_the_engine_fills_stands_last_unless_it_is_the_key() -> None:
    @dataclass
    class Row:
        version: int
        id: str
        name: str

    assert described(row_table("rows", Row, key="id")) == "id text*, name text, version bigint"
    assert described(row_table("rows", Row, key="name")) == "name text*, version bigint, id text"


def test_limits_of_a_field_do_not_matter() -> None:
    class Weigh(CommandBase):
        grams: Annotated[int, Field(ge=0)] | None = None
        scale: Label

    assert described(fact_table("weights", Weigh)) == "grams bigint?, scale text, command_id uuid"


def test_a_row_of_many_is_a_record_with_what_all_of_them_share() -> None:
    class Weight(Message):
        grams: int
        note: Annotated[str | None, JSONB()] = None

    class Weigh(CommandBase):
        scale: Label
        weights: list[Weight]

    table = fact_table("weights", Weigh, first=("grams", "scale"))
    assert described(table) == "grams bigint, scale text, note jsonb?, command_id uuid"


def test_a_name_that_a_record_and_its_command_share_is_refused() -> None:
    class Weight(Message):
        scale: Label

    class Weigh(CommandBase):
        scale: Label
        weights: list[Weight]

    with pytest.raises(ContractError, match="Weight and Weigh both have scale"):
        fact_table("weights", Weigh)


def test_two_lists_of_records_are_no_rows_of_one_table() -> None:
    class Weight(Message):
        grams: int

    class Weigh(CommandBase):
        before: list[Weight]
        after: list[Weight]

    with pytest.raises(ContractError, match="Weigh has several lists of records: after, before"):
        fact_table("weights", Weigh)


def test_what_has_no_column_is_named() -> None:
    class Colour(StrEnum):
        RED = "red"

    class Paint(CommandBase):
        colours: list[Colour]

    with pytest.raises(
        ContractError, match=r"Paint\.colours: no column for list.*: use str, int, .*Annotated"
    ):
        fact_table("paints", Paint)


def test_a_key_is_a_field() -> None:
    @dataclass
    class Row:
        a: str

    with pytest.raises(ContractError, match="Row has no b to be the key"):
        row_table("rows", Row, key=("a", "b"))


def test_the_first_column_is_a_field() -> None:
    class Weigh(CommandBase):
        scale: Label
        grams: int

    assert described(fact_table("w", Weigh, first="grams")) == "grams bigint, scale text, command_id uuid"
    with pytest.raises(ContractError, match="Weigh has no time to be the first column"):
        fact_table("w", Weigh, first=("grams", "time"))


# --- indexes ---


class Note(CommandBase):
    """What indexes are declared of."""

    place: Label
    time: int
    text: str
    more: str | None = None
    data: Annotated[str, JSONB()] = "{}"


def indexes(*declared: Any) -> dict[str, str]:
    """Return the indexes of a table of notes: name -> what a statement that creates it says after the table."""
    dialect: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
    table = fact_table("notes", Note, index=declared)
    made = {str(each.name): str(CreateIndex(each).compile(dialect=dialect)) for each in table.indexes}
    return {name: text.partition(" ON public.notes ")[2] for name, text in made.items()}


def test_facts_declare_indexes_as_entities_do() -> None:
    assert indexes(
        ("place", "time desc"),
        gin("data"),
        member("data", "kind", name="by_kind"),
        words("more"),
        words("text", "place", name="by_words"),
        named("by_time", "time desc"),
    ) == {
        "notes_place_time": "USING btree (place, time DESC)",
        "notes_data": "USING gin (data)",
        "by_kind": "USING btree ((data ->> 'kind'))",
        "notes_more_words": "USING gin (to_tsvector('simple', more))",
        "by_words": "USING gin (to_tsvector('simple', text || ' ' || place))",
        "by_time": "USING btree (time DESC)",
    }


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (("place", "nothing desc"), "index of notes: there is no field nothing"),
        (words("text", "more"), "index of notes: more may be null, index its words alone"),
        (named("n" * 64, "text"), "longer than the 63 bytes that PostgreSQL keeps"),
    ],
)
def test_an_index_that_does_not_suit_is_refused(declared: Any, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        indexes(declared)


def test_rows_declare_indexes_too() -> None:
    @dataclass
    class Row:
        a: str
        b: int

    (index,) = row_table("rows", Row, key="a", index=(("b",),)).indexes
    assert index.name == "rows_b"
