"""`tidemill query` of facts, and of every collection that there is: filters, order, bounds, misuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.servers.installation import Installation
from tidemill.app.context_loader import ALL

FILL = (
    """
    insert into public.market_data (time, symbol, price, source, command_id)
    select '2013-02-01+00'::timestamptz + i * interval '1 hour', 'S' || i % 2, i, 'test', gen_random_uuid()
    from generate_series(0, 29) i
    """,
    """
    insert into public.telemetry_events (time, source, name, value, attributes, command_id)
    values ('2026-01-01+00', 'boiler', 'heat', 1.5, '{"a": 1}', gen_random_uuid())
    """,
    """
    insert into public.system_logs (time, service, level, message, details, command_id)
    values ('2026-01-01+00', 'store', 'error', 'disk full', '{}', gen_random_uuid()),
           ('2026-01-02+00', 'store', 'info', 'started', '{}', gen_random_uuid())
    """,
    """
    insert into public.cache_entries (id, service_name, value, expires_at, deleted, version, created_at, updated_at)
    select 'e' || n, 'store', '{}', now() + n * interval '1 day', n = 2, 1, now(), now() from generate_series(-1, 3) n
    """,
)


@pytest.fixture
def filled(installation: Installation) -> Installation:
    """Every context, and facts of three of them."""
    environment = {**installation.environment, "TIDEMILL_CONTEXTS": ALL}
    filled = replace(installation, environment=environment)
    filled.execute(*FILL)
    return filled


def asked(installation: Installation, *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = installation("query", *arguments, "--json").json()
    return rows


def prices(installation: Installation, *arguments: str) -> list[float]:
    return [row["price"] for row in asked(installation, "market-data", *arguments)]


def test_the_newest_facts_come_first_and_no_more_than_asked_for(filled: Installation) -> None:
    assert prices(filled) == list(range(29, 9, -1))
    assert prices(filled, "--limit", "2") == [29, 28]
    shown = filled("query", "market_data", "--limit", "2")
    assert "There are more: --limit 20" in shown.err
    assert "S1" in shown.out
    assert "--limit" in filled("query", "market-data", "--limit", "10001", expect=2).err


def test_facts_are_narrowed_by_columns_and_by_time(filled: Installation) -> None:
    day = ("--from", "2013-02-02", "--to", "2013-02-02T03:00:00+00:00")
    assert prices(filled, *day) == [26, 25, 24]
    assert prices(filled, *day, "--where", "symbol=S1") == [25]
    assert prices(filled, "--where", "symbol=S1", "--where", "price=3") == [3]
    (line,) = asked(filled, "system-logs", "--where", "level=error")
    assert (line["message"], line["details"]) == ("disk full", "{}")
    (event,) = asked(filled, "telemetry_events", "--where", 'attributes={"a":1}')
    assert (event["source"], event["value"]) == ("boiler", 1.5)


def test_a_row_whose_time_is_over_is_shown_to_no_one_though_nothing_has_removed_it(
    filled: Installation,
) -> None:
    """One of the two that are over is so from the moment on in which it was written."""
    assert {row["id"] for row in asked(filled, "cache-entries")} == {"e1", "e3"}
    assert asked(filled, "cache-entries", "--key", "e0") == []
    assert [row["id"] for row in asked(filled, "cache-entries", "--key", "e1")] == ["e1"]
    assert filled.fetch("select count(*) from public.cache_entries where not deleted") == [(4,)]


def test_every_collection_is_read_and_a_wrong_name_lists_them(filled: Installation) -> None:
    said = filled("query", "nonsense", expect=2).err
    names = said.partition("there is: ")[2].strip().split(", ")
    assert {"market-data", "telemetry-events", "system-logs", "users", "analysis-files", "latest-quotes"} <= {
        *names
    }
    for name in names:
        asked(filled, name)
    assert asked(filled, "service-proposals", "--where", "status=submitted") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["market-data", "--key", "S1"], "market-data has no key"),
        (["market-data", "--where", "symbl=S1"], "has no column symbl"),
        (["market-data", "--where", "symbol"], "write COLUMN=VALUE"),
        (["market-data", "--where", "symbol=A", "--where", "symbol=B"], "name each column once"),
        (["market-data", "--where", "price=much"], "price = much does not fit"),
        (["market-data", "--from", "soon"], "not a valid time"),
        (["latest-quotes", "--from", "2013-01-01"], "not a table of facts"),
    ],
)
def test_a_misuse_is_named(filled: Installation, arguments: list[str], message: str) -> None:
    said = filled("query", *arguments, expect=2).err
    assert message in " ".join(said.replace("│", " ").split())


def test_help_names_the_kinds_of_collections(installation: Installation) -> None:
    said = " ".join(installation("query", "--help").out.replace("│", " ").split())
    assert "table of facts" in said
    assert "tidemill query market-data --where symbol=AAPL" in said
