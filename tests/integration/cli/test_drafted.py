"""migrate check and migrate draft, as a pipeline and a person call them."""

from __future__ import annotations

import ast
from dataclasses import replace

from tests.support.servers.installation import Installation

NOWHERE = {"TIDEMILL_DATABASE_URL": "postgresql://u@127.0.0.1:1/x"}
TELEMETRY = {"TIDEMILL_CONTEXTS": "telemetry-events"}
CHUNKS = "select count(*) from timescaledb_information.chunks where hypertable_name = 'telemetry_events'"
ORDINARY = (
    """
    alter table public.telemetry_events rename to former;
    create table public.telemetry_events (like public.former including all);
    drop table public.former;
    grant select, insert on public.telemetry_events to tidemill_service;
    grant select on public.telemetry_events to tidemill_reader
    """,
    """
    insert into public.telemetry_events (time, source, name, value, attributes, command_id)
    select '2026-01-01+00'::timestamptz + i % 2 * interval '14 days', 'boiler', 'heat', i, '{}', gen_random_uuid()
    from generate_series(1, 30) i
    """,
)
BROKEN = (
    "alter table public.latest_quotes drop column volume",
    "revoke select on public.daily_bars from tidemill_reader",
)


def test_what_is_as_declared_passes_and_what_is_more_is_shown(installation: Installation) -> None:
    said = installation("migrate", "check")
    assert said.out == "All tables are as declared.\n"
    installation.execute(
        "create index mine on public.market_data (source)",
        "create index yours on public.connector_directory (type)",
    )
    said = installation("migrate", "check")
    assert said.out.endswith("All tables are as declared.\n")
    assert "index mine on (source) is not declared" in said.out
    shown = installation("migrate", "check", "connector-profiles", "--json").json()
    assert {item["context"] for item in shown} == {"connector_profiles"}
    assert not any(item["fails"] for item in shown)


def test_a_pipeline_is_stopped_by_what_is_missing(installation: Installation) -> None:
    installation.execute(*BROKEN)
    said = installation("migrate", "check", expect=1)
    assert "alter table public.latest_quotes add column volume double precision" in said.out
    assert "tidemill migrate draft market_data" in said.err
    assert "connector_profiles" not in said.err
    failing = [item for item in installation("migrate", "check", "--json", expect=1).json() if item["fails"]]
    assert {(item["table"], item["what"], item["kind"]) for item in failing} == {
        ("public.latest_quotes", "column volume (double precision) is missing", "missing"),
        ("public.daily_bars", "tidemill_reader may not select", "missing"),
    }
    assert installation("migrate", "check", "connector_profiles").code == 0


def test_what_stops_nothing_is_named_by_status(installation: Installation) -> None:
    installation("topics", "create")
    installation.execute(BROKEN[1])
    said = installation("status", expect=None)
    assert "not as declared public.daily_bars: tidemill_reader may not select" in said.out
    shown = installation("status", "--json", expect=None).json()
    assert [item["what"] for item in shown["differences"]] == ["tidemill_reader may not select"]
    assert shown["misfits"] == []


def test_an_index_of_facts_that_is_missing_is_named_and_drafted(installation: Installation) -> None:
    installation.execute("drop index public.market_data_symbol_time")
    again = "create index market_data_symbol_time on public.market_data (symbol, time desc)"
    assert again in installation("migrate", "check", expect=1).out
    assert again in installation("migrate", "draft", "market-data", "--print").out
    installation("topics", "create")
    shown = installation("status", "--json", expect=None).json()
    assert [item["what"] for item in shown["differences"]] == ["index market_data_symbol_time is missing"]
    assert shown["misfits"] == []


def test_a_draft_is_printed_and_nothing_written(installation: Installation) -> None:
    installation.execute(*BROKEN)
    said = installation("migrate", "draft", "market-data", "--about", "Bring it back", "--print").out
    assert 'revision = "market_data_0004"' in said
    assert 'down_revision = "market_data_0003"' in said
    assert 'run_script("alter table public.latest_quotes add column volume double precision")' in said
    assert 'run_script("alter table public.latest_quotes drop column volume")' in said
    nothing = installation("migrate", "draft", "connector-profiles")
    assert (nothing.out, nothing.err) == (
        "",
        "The tables of connector-profiles are as declared: nothing to draft.\n",
    )


def upgrade_of(revision: str) -> list[str]:
    """Return the statements of a revision's upgrade."""
    (upgrade,) = (
        function
        for function in ast.walk(ast.parse(revision))
        if isinstance(function, ast.FunctionDef) and function.name == "upgrade"
    )
    return [ast.literal_eval(call.args[0]) for call in ast.walk(upgrade) if isinstance(call, ast.Call)]


def test_an_ordinary_table_is_told_from_a_hypertable_and_made_one(installation: Installation) -> None:
    """With its rows, by the drafted statements."""
    chosen = replace(installation, environment={**installation.environment, **TELEMETRY})
    assert chosen("migrate", "check", "telemetry-events").code == 0
    chosen.execute(*ORDINARY)
    assert "it is an ordinary table, not a hypertable" in chosen("migrate", "check", expect=1).out
    drafted = chosen("migrate", "draft", "telemetry-events", "--print").out
    assert "choose the span of a chunk, and a quiet hour" in " ".join(drafted.replace("#", " ").split())
    chosen.execute(*upgrade_of(drafted))
    assert chosen("migrate", "check", "telemetry-events").code == 0
    assert chosen.fetch(CHUNKS) == [(2,)]
    assert chosen.fetch("select count(*) from public.telemetry_events") == [(30,)]


def test_a_hypertable_that_is_divided_by_another_column_is_named(installation: Installation) -> None:
    chosen = replace(installation, environment={**installation.environment, **TELEMETRY})
    column = "alter table public.telemetry_events add column seen timestamptz not null default now()"
    chosen.execute(
        ORDINARY[0], column, "select create_hypertable('public.telemetry_events', by_range('seen'))"
    )
    assert "it is a hypertable by seen, not by time" in chosen("migrate", "check", expect=1).out
    drafted = chosen("migrate", "draft", "telemetry-events", "--print").out
    assert "nothing is drafted for it, decide what becomes of it" in " ".join(
        drafted.replace("#", " ").split()
    )


def test_a_draft_from_nothing_needs_no_server(installation: Installation) -> None:
    away = Installation(dict(installation.environment) | NOWHERE, installation.folder)
    said = away("migrate", "draft", "connector-profiles", "--from-nothing", "--print").out
    assert "create table public.connector_profiles (" in said
    assert away("migrate", "draft", "connector-profiles", "--print", expect=1).err.startswith(
        "Error: database is not available"
    )


def test_a_context_that_is_not_there_is_said(installation: Installation) -> None:
    for verb in ("draft", "check"):
        said = installation("migrate", verb, "ebbs", expect=2)
        assert said.err.startswith("Error: there is no aggregate 'ebbs': choose one of")


def test_missing_revisions_are_applied_before_a_draft(installation: Installation) -> None:
    installation("migrate", "--down", "market_data@base", "--yes")
    said = installation("migrate", "draft", "market-data", expect=2)
    assert said.err == (
        "Error: the database lacks market_data_0001, market_data_0002, market_data_0003 of market_data, which a draft "
        "would repeat: run `tidemill migrate`\n"
    )


def test_schemas_that_a_context_has_are_left_alone(installation: Installation) -> None:
    said = installation("schemas", "new", "--all", "market-data")
    assert said.out == ""
    assert said.err.count("left ") == 2
    for arguments in ([], ["RecordMarketData", "--all", "market-data"]):
        assert (
            "name the messages, or a context with --all"
            in installation("schemas", "new", *arguments, expect=2).err
        )
