"""The page of the built-in collections is written first, and the code has to agree with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from tidemill.app.context_loader import ALL, load_contexts
from tidemill.domain.context import AppendSpec, Context
from tidemill.domain.messages import BASE_FIELDS
from tidemill.domain.records import record_fields
from tidemill.domain.state import State
from tidemill.storage.database.table_sql import condition, type_as_written

PAGE = Path(__file__).parents[3] / "docs" / "collections.md"
CONTEXTS = (
    "client_configs",
    "service_proposals",
    "users",
    "data_analyses",
    "tool_generations",
    "cache_entries",
    "time_series",
)
SAME_FOR_ALL = ["id", "service_name", "deleted", "version", "created_at", "updated_at"]
COMMON_CODES = {"ALREADY_EXISTS", "NOT_FOUND", "VERSION_CONFLICT"}
MIGRATIONS = PAGE.parents[1] / "migrations"
SHORT_TYPES = {"timestamp with time zone": "timestamptz"}


@dataclass
class Section:
    """What the page says of one collection, its tables by their first heading, without the marks of code."""

    name: str
    text: str
    tables: dict[str, list[list[str]]] = field(default_factory=dict)

    @property
    def codes(self) -> set[str]:
        return set(re.findall(r"`([A-Z_]+)`", self.text.partition("Codes:")[2]))

    @property
    def entity(self) -> str:
        """The name of which commands and events are made: that of the key, without `_id`."""
        return "".join(word.title() for word in self.words("Key").split("_")[:-1])

    def words(self, label: str) -> str:
        (found,) = re.findall(rf"{label}: `([a-z_-]+)`", self.text.replace("\n", " "))
        return str(found)


def sections() -> Iterator[Section]:
    for part in PAGE.read_text().split("\n## ")[1:]:
        name, _, text = part.partition("\n")
        section = Section(name, text)
        for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            head, _, *rows = [
                [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
                for line in block.splitlines()
            ]
            section.tables[head[0]] = rows
        yield section


SECTIONS = {section.name: section for section in sections()}
STATES: dict[str, tuple[Context, State]] = {
    state.name: (context, state)
    for context in (import_module(f"tidemill.contexts.{name}").context for name in CONTEXTS)
    for state in context.states
}
FACTS = ("telemetry_events", "system_logs", "news_articles")
POINTS = ("time_series_data_points", "time_series_numeric_points")
each_collection = pytest.mark.parametrize("name", STATES)


def table_of(name: str) -> Table:
    return cast("Table", STATES[name][1].table)


def column_names(name: str) -> list[str]:
    return [column.name for column in table_of(name).columns]


def models_of(name: str) -> dict[str, type[Any]]:
    """Return the commands of one collection by name."""
    context, state = STATES[name]
    return {spec.model.__name__: spec.model for spec in context.commands if cast("Any", spec).state is state}


def test_the_page_has_every_collection_and_no_other() -> None:
    assert list(SECTIONS) == [*STATES, *POINTS, *FACTS]
    built_in = {context.name for context in load_contexts(ALL)}
    assert built_in == {*CONTEXTS, *FACTS, "market_data", "connector_profiles"}


@each_collection
def test_the_columns_are_those_of_the_page(name: str) -> None:
    written = [(row[0], row[1], row[2]) for row in SECTIONS[name].tables["field"]]
    declared = [
        (column.name, SHORT_TYPES.get(kind, kind), "yes" if column.nullable else "no")
        for column in table_of(name).columns
        if column.name not in SAME_FOR_ALL
        for kind in [type_as_written(column).lower()]
    ]
    assert declared == written
    assert [each for each in column_names(name) if each in SAME_FOR_ALL] == SAME_FOR_ALL
    assert table_of(name).primary_key.columns.keys() == ["id"]


@each_collection
def test_the_commands_bring_what_the_page_says_that_they_bring(name: str) -> None:
    models, key = models_of(name), SECTIONS[name].words("Key")
    create = next(model for verb, model in models.items() if verb.startswith("Create"))
    rows = SECTIONS[name].tables["field"]
    in_create = {row[0] for row in rows if not row[5]}
    assert {*create.model_fields} - {*BASE_FIELDS, key} == in_create
    defaults = {row[0]: row[3] for row in rows if row[0] in in_create and row[2] == "no"}
    assert {
        each: "" if info.is_required() else str(info.default).lower()
        for each, info in create.model_fields.items()
        if each in defaults
    } == defaults
    steps = {row[0] for kind in ("step", "command") for row in SECTIONS[name].tables.get(kind, [])}
    assert {verb for verb in models if not verb.startswith(("Create", "Update", "Delete"))} == steps


@each_collection
def test_the_events_are_those_of_the_page(name: str) -> None:
    state, entity = STATES[name][1], SECTIONS[name].entity
    steps = [row[1] for kind in ("step", "command") for row in SECTIONS[name].tables.get(kind, [])]
    usual = [f"{entity}{participle}" for participle in ("Created", "Updated", "Deleted")]
    assert [event.__name__ for event in state.events] == [*usual, *steps]


@each_collection
def test_a_required_field_of_a_step_is_one_that_the_page_names(name: str) -> None:
    written = {(row[0], by) for row in SECTIONS[name].tables["field"] for by in row[5].split(", ")}
    steps = [row[0] for row in SECTIONS[name].tables.get("step", [])]
    models = models_of(name)
    same = {*BASE_FIELDS, SECTIONS[name].words("Key"), "expected_version"}
    brought = {(each, step) for step in steps for each in models[step].model_fields if each not in same}
    assert brought <= written


@each_collection
def test_the_indexes_are_those_of_the_page(name: str) -> None:
    written = [tuple(row) for row in SECTIONS[name].tables["index"]]
    state = STATES[name][1]
    unique = [
        (each.constraint, ", ".join(each.columns), f"unique where {shown(condition(each.where))}")
        for each in state.unique
    ]
    assert sorted([*unique, *map(index_row, table_of(name).indexes)]) == sorted(written)


def shown(where: str) -> str:
    return re.sub(r"^NOT (\w+\.)*", "not ", where)


def index_row(index: Any) -> tuple[str, str, str]:
    dialect: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
    text = str(CreateIndex(index).compile(dialect=dialect))
    ((on, where),) = re.findall(r"ON \S+ (?:USING \w+ )?\((.*?)\)(?: WHERE (.*))?$", text)
    inner = re.sub(r"^\((.*->> '.*')\)$", r"\1", on)
    using = index.dialect_options["postgresql"]["using"] or ""
    partial = f"where {shown(where)}" if where else ""
    return str(index.name), inner, " ".join(filter(None, [using.replace("btree", ""), partial]))


@each_collection
def test_the_codes_are_those_of_the_page(name: str) -> None:
    context, _ = STATES[name]
    together = [section for section, (owner, _) in STATES.items() if owner is context]
    assert COMMON_CODES | set().union(*(SECTIONS[each].codes for each in together)) == set(context.codes)


@each_collection
def test_the_topics_are_those_of_the_page(name: str) -> None:
    assert SECTIONS[name].words("Topics") == STATES[name][0].aggregate
    assert STATES[name][0].partitions == 8


@each_collection
def test_the_steps_lead_where_the_page_says(name: str) -> None:
    """By the messages of refused steps, which name the states that a step takes."""
    statuses = _statuses(SECTIONS[name].tables["field"])
    steps = SECTIONS[name].tables.get("step", [])
    reached = [to for _, _, _, to in steps]
    assert set(reached) <= set(statuses)
    assert set(statuses) == ({*reached, *_first(SECTIONS[name])} if steps else set())


def _statuses(fields: Sequence[Sequence[str]]) -> list[str]:
    return [word for row in fields if row[0] == "status" for word in row[4].split(", ")]


def _first(section: Section) -> list[str]:
    return [row[3] for row in section.tables["field"] if row[0] == "status"]


# --- points ---


@pytest.mark.parametrize("name", POINTS)
def test_the_columns_and_indexes_of_points_are_those_of_the_page(name: str) -> None:
    context, _ = STATES["time_series_metadata"]
    (table,) = (cast("Table", facts.table) for facts in context.current if facts.table.name == name)
    assert [tuple(row[:3]) for row in SECTIONS[name].tables["point"]] == columns_of(table)
    assert sorted(map(index_row, table.indexes)) == sorted(map(tuple, SECTIONS[name].tables["index"]))
    made = "".join(file.read_text() for file in sorted((MIGRATIONS / "time_series").glob("0*.py")))
    for index, on, _ in map(index_row, table.indexes):
        assert re.search(rf"create index {index}[\s\"]+on public\.{name} \({on}\);", made)


def columns_of(table: Table) -> list[tuple[str, str, str]]:
    """Return the columns as the page has them."""
    return [
        (column.name, SHORT_TYPES.get(kind, kind), "yes" if column.nullable else "no")
        for column in table.columns
        for kind in [type_as_written(column).lower()]
    ]


# --- facts ---

each_facts = pytest.mark.parametrize("name", FACTS)


def facts_of(name: str) -> tuple[Context, AppendSpec]:
    context: Context = import_module(f"tidemill.contexts.{name}").context
    (spec,) = context.commands
    assert isinstance(spec, AppendSpec)
    return context, spec


@each_facts
def test_the_columns_of_facts_are_those_of_the_page(name: str) -> None:
    _, spec = facts_of(name)
    written = [(row[0], row[1], row[2]) for row in SECTIONS[name].tables["column"]]
    assert columns_of(cast("Table", spec.table)) == written


@each_facts
def test_facts_are_brought_as_the_page_says(name: str) -> None:
    _, spec = facts_of(name)
    rows = SECTIONS[name].tables["column"]
    records = record_fields(spec.model)
    assert {row[5] for row in rows} - {"the command", "the engine"} == records.keys()
    own = {*spec.model.model_fields} - {*BASE_FIELDS, *records}
    assert own == {row[0] for row in rows if row[5] == "the command"}
    fields = {name: spec.model.model_fields[name] for name in own}
    for many, record in records.items():
        assert set(record.model_fields) == {row[0] for row in rows if row[5] == many}
        fields |= record.model_fields
    defaults = {row[0]: row[3] for row in rows}
    for field_name, info in fields.items():
        default = "" if info.is_required() or info.default is None else str(info.default)
        assert default == defaults[field_name]


@each_facts
def test_the_names_lanes_and_days_of_facts_are_those_of_the_page(name: str) -> None:
    context, spec = facts_of(name)
    section = SECTIONS[name]
    text = section.text.replace("\n", " ")
    assert section.words("Topics") == context.aggregate
    assert f"Command: `{spec.model.__name__}`" in text
    assert f"Event: `{spec.event.__name__}`" in text
    assert f", {context.partitions} lanes." in text
    assert context.retention is not None
    assert f"after {context.retention.after.days} days" in text


@each_facts
def test_the_indexes_of_facts_are_those_of_the_page(name: str) -> None:
    _, spec = facts_of(name)
    declared = map(index_row, cast("Table", spec.table).indexes)
    assert sorted(declared) == sorted(map(tuple, SECTIONS[name].tables["index"]))
    made = "".join(file.read_text() for file in (MIGRATIONS / name).glob("*.py"))
    pattern = rf"create index (\S+) on public\.{name} (?:using (\w+) )?\((.*)\);"
    created = [(index, on.replace(" desc", " DESC"), using) for index, using, on in re.findall(pattern, made)]
    assert created == [tuple(row) for row in SECTIONS[name].tables["index"]]
