"""`tidemill retention` on real parts: a table leaves for a lake, comes back, is held, and is looked after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.archive.site import THAW
from tests.support.servers.installation import Installation, installation_on
from tests.support.waiting import eventually_blocking
from tidemill_devkit.stack import Stack

pytestmark = pytest.mark.slow

# Each test goes on from the one before.

LAW = ("--reason", "law suit 17")
FILL = """
    insert into public.market_data (time, symbol, price, volume, source, command_id)
    select '{year}-01-05+00'::timestamptz + i * interval '7 days', 'S' || i % 3, i / 7.0, i, 'test', gen_random_uuid()
    from generate_series(1, 20) i
"""

PUBLISHED = """
    select p.sequence > 0 and p.sequence = (select max(sequence) from tm.batch b where b.lane = p.lane)
    from tm.published p join tm.lane using (lane) where aggregate = 'archival'
"""
COMPARED = "select compared_epoch = epoch from tm.lane where aggregate = 'archival'"
SET_BACK = """
    with ours as (select lane from tm.lane where aggregate = 'archival'),
      a as (delete from tm.batch using ours where batch.lane = ours.lane and position > 0),
      b as (delete from tm.outbox using ours where outbox.lane = ours.lane),
      c as (delete from tm.log using ours where log.lane = ours.lane)
    update tm.published set position = 0, sequence = 0, event_id = null from ours where published.lane = ours.lane
"""
"""The archive's lane as it was when it was made: by a backup of then."""


@pytest.fixture(scope="module")
def archiving(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:
    """An installation whose archiver serves; what is due leaves when a test says so. Tests share it, in their order."""
    with new_database() as database:
        folder = tmp_path_factory.mktemp("archiving")
        made = installation_on(stack, database, unique_name("archiving"), folder)
        lake = {"TIDEMILL_LAKE_ROOT": str(folder / "lake"), "TIDEMILL_RETENTION_EVERY_S": "0.2"}
        installation = replace(made, environment={**made.environment, **lake})
        installation("schemas", "register")
        installation("topics", "create")
        installation.execute(FILL.format(year=2010), FILL.format(year=2011))
        with installation.serving("archiver"):
            yield installation


def hot(installation: Installation) -> int:
    return int(installation.fetch("select count(*) from public.market_data")[0][0])


def ranges(installation: Installation) -> list[tuple[datetime, datetime, str]]:
    return [
        tuple(row)
        for row in installation.fetch(
            "select range_start, range_end, state from tm.archive order by range_start, generation"
        )
    ]


def span_of_all() -> tuple[str, ...]:
    return ("--from", "2009-01-01", "--to", "2013-01-01")


def test_a_plan_says_what_leaves_and_what_waits(archiving: Installation, timescaledb_edition: str) -> None:
    (now,) = archiving("retention", "plan", "--json").json()
    assert now["table"] == "public.market_data"
    assert ({each["code"] for each in now["waiting"]}, now["seal"]) == ({"UNSEEN"}, [])
    (rehearsed,) = archiving("retention", "plan", "market_data", "--as-of", "2013-01-01", "--json").json()
    leaving = [*rehearsed["seal"], *rehearsed["queued"]]
    assert leaving
    assert rehearsed["lake_bytes"] > 0
    young = archiving("retention", "plan", "--as-of", "2010-06-01", "--json").json()[0]
    assert {each["code"] for each in young["waiting"]} == {"YOUNG"}
    said = archiving("retention", "plan", "--as-of", "2013-01-01").out
    assert leaving[0]["chunk"] in said
    assert "to leave" in said
    mode, edition = ("freeze", "Community") if timescaledb_edition == "timescale" else ("lock", "Apache")
    assert now["seal_mode"] == mode
    assert f"TimescaleDB's {edition} edition" in " ".join(said.split())
    assert hot(archiving) == 40, "a plan changes nothing"


def test_an_unknown_table_or_time_is_named(archiving: Installation) -> None:
    assert "public.market_data" in archiving("retention", "plan", "nothing", expect=2).err
    assert "2010-01-31" in archiving("retention", "plan", "--as-of", "soon", expect=2).err
    assert "--reason" in archiving("retention", "hold", "market_data", expect=2).err
    assert "--list" in archiving("retention", "hold", expect=2).err
    assert "--hold" in archiving("retention", "release", "market_data", *LAW, expect=2).err
    assert "no slice" in archiving("retention", "retry", "market_data", "2010-03-01", *LAW, expect=2).err
    assert "chunk" in archiving("retention", "why-not-dropped", "no_such_chunk", expect=2).err


def test_a_held_span_does_not_leave(archiving: Installation) -> None:
    held = ("--from", "2009-01-01", "--to", "2020-01-01")
    done = archiving("retention", "hold", "market_data", *held, *LAW)
    assert "frozen under a seal" in " ".join(done.err.split()), "who can pass it is not only a superuser"
    assert "beware" not in done.out
    assert "law suit 17" in archiving("retention", "hold", "--list").out
    done = archiving("retention", "run", "--once", "--as-of", "2014-01-01", "--json").json()
    assert (done["finished"], done["dropped"]) == (True, 0)
    (why, *_) = archiving("retention", "why-not-dropped", "market_data", "2010-03-01", "--json").json()
    assert "law suit 17" in why["answer"]
    lifted = archiving(
        "retention", "release", "market_data", "--hold", *held, "--reason", "settled", "--json"
    )
    assert len(lifted.json()["holds"]) == 1
    assert archiving("retention", "hold", "--list", "--json").json() == []


def test_a_policy_of_timescaledb_that_drops_without_a_copy_is_warned_of(archiving: Installation) -> None:
    archiving.execute(
        """
        insert into _timescaledb_config.bgw_job (application_name, schedule_interval, max_runtime, max_retries,
            retry_period, proc_schema, proc_name, scheduled, hypertable_id, config)
          select 'planted', '1 day', '0', 1, '1 day', '_timescaledb_functions', 'policy_retention', false, id,
            '{"drop_after": "30 days"}' from _timescaledb_catalog.hypertable where table_name = 'market_data'
        """
    )
    try:
        for verb in (("plan",), ("status",), ("hold", "market_data", *LAW)):
            assert "drops chunks of public.market_data after 30 days" in archiving("retention", *verb).out, (
                verb
            )
            told = archiving("retention", *verb, "--json").json()
            (warning,) = (told[0] if isinstance(told, list) else told)["warnings"]
            assert "remove_retention_policy" in warning
    finally:
        archiving.execute("delete from _timescaledb_config.bgw_job where application_name = 'planted'")
        archiving("retention", "release", "market_data", "--hold", "--reason", "settled")


def test_a_run_ends_when_all_is_gone(archiving: Installation) -> None:
    done = archiving("retention", "run", "--once", "--as-of", "2014-01-01")
    assert "Nothing more is due" in done.out
    assert hot(archiving) == 0
    assert {state for *_, state in ranges(archiving)} == {"dropped"}
    (status,) = archiving("retention", "status", "--json").json()
    assert (status["archived_rows"], status["hot_chunks"], status["notes"]) == (40, 0, [])
    assert status["archived_bytes"] > 0
    said = archiving("retention", "status", "market_data").out
    assert "dropped" in said
    assert {"freeze": "freeze the chunk", "lock": "leave the chunk open"}[status["seal_mode"]] in said
    again = archiving("retention", "run", "--once", "--as-of", "2014-01-01", "--json").json()
    assert (again["finished"], again["dropped"]) == (True, 0)
    told = archiving("retention", "why-not-dropped", "market_data", "2010-03-01")
    assert "it is dropped" in told.out
    assert "verified" in told.out


def test_a_scrub_finds_all_whole(archiving: Installation) -> None:
    assert "All copies are intact" in archiving("retention", "scrub").out


def test_a_dry_run_changes_nothing_and_a_restore_brings_all_back(archiving: Installation) -> None:
    dry = archiving("retention", "restore", "market_data", *span_of_all(), "--dry-run", "--json").json()
    assert sum(each["rows"] for each in dry) == 40
    assert all(each["bytes"] > 0 and each["files"] == 1 and each["refused"] is None for each in dry)
    assert hot(archiving) == 0
    refused = archiving("retention", "restore", "market_data", *span_of_all(), stdin="n\n", expect=1)
    assert "40 rows" in refused.err
    assert hot(archiving) == 0
    done = archiving("retention", "restore", "market_data", *span_of_all(), "--days", "3", "--yes")
    assert "restored" in done.out
    assert hot(archiving) == 40
    (status,) = archiving("retention", "status", "--json").json()
    assert (status["restored_rows"], status["hot_chunks"]) == (40, 0)
    twice = archiving("retention", "restore", "market_data", *span_of_all(), "--yes", expect=1)
    assert "restored already" in twice.out
    nothing = archiving(
        "retention", "restore", "market_data", "--from", "1999-01-01", "--to", "2000-01-01", expect=2
    )
    assert "nothing of public.market_data" in nothing.err


def test_restored_ranges_leave_when_their_days_are_over_unless_somebody_changed_them(
    archiving: Installation,
) -> None:
    (first, *_) = archiving.fetch("select chunk from tm.archive order by range_start limit 1")
    archiving.execute(
        THAW,
        f"update {first[0]} set price = price + 1",
        "update tm.archive set restore_until = now() - interval '1 minute'",
    )
    done = archiving("retention", "run", "--once", "--as-of", "2014-01-01", expect=1)
    assert "quarantined" in done.out
    assert [state for *_, state in ranges(archiving)].count("quarantined") == 1
    archiving("retention", "status", expect=1)
    start, *_ = ranges(archiving)[0]
    time = start.astimezone(UTC).isoformat()
    archiving("retention", "retry", "market_data", time, "--reason", "the new price is right")
    archiving("retention", "run", "--once", "--as-of", "2014-01-01")
    assert hot(archiving) == 0
    assert {state for *_, state in ranges(archiving)} == {"dropped"}


def test_ranges_that_cannot_come_back_do_not_stop_the_others(archiving: Installation) -> None:
    archiving.execute("alter table public.market_data rename column volume to size")
    try:
        told = archiving("retention", "restore", "market_data", *span_of_all(), "--yes", "--json", expect=1)
    finally:
        archiving.execute("alter table public.market_data rename column size to volume")
    problems = [each["trouble"] for each in told.json()]
    assert len(problems) == len(ranges(archiving)) > 1
    assert all("it no longer has volume" in trouble for trouble in problems)
    assert hot(archiving) == 0


def test_a_scrub_names_what_is_damaged_and_what_is_gone(archiving: Installation) -> None:
    copies = [
        json.loads(row[0]) for row in archiving.fetch("select copy from tm.archive order by range_start")
    ]
    flipped, gone = (Path(copy["files"][0][0]) for copy in (copies[0], copies[-1]))
    content = bytearray(flipped.read_bytes())
    content[64] ^= 1
    flipped.write_bytes(content)
    gone.unlink()
    found = archiving("retention", "scrub", "--json", expect=1).json()
    assert found["copies"] == len(copies)
    assert ["sha256" in each["wrong"][0] for each in found["wrong"]] == [True, False]
    assert "no such file" in found["wrong"][1]["wrong"][0]
    assert flipped.name in archiving("retention", "scrub", expect=1).out
    damaged = archiving("retention", "restore", "market_data", *span_of_all(), "--yes", expect=1)
    assert "not restored" in damaged.out


def test_orders_reach_a_process_that_serves(prepared: Installation) -> None:
    lake = {
        "TIDEMILL_LAKE_ROOT": str(prepared.folder / "lake"),
        "TIDEMILL_RETENTION_EVERY_S": "0.2",
        "TIDEMILL_RETENTION_AS_OF": "2014-01-01T00:00:00Z",
    }
    installation = replace(prepared, environment={**prepared.environment, **lake})
    installation.execute(FILL.format(year=2010))

    def states() -> set[str]:
        return {state for *_, state in ranges(installation)}

    with installation.serving("retention"):
        eventually_blocking(lambda: states() == {"requested"}, what="the requests")
        installation("retention", "hold", "market_data", *LAW)
        assert states() == {"held"}
        assert (
            "first" in installation("retention", "release", "market_data", "2010-03-01", *LAW, expect=2).err
        )
        installation("retention", "release", "market_data", "--hold", "--reason", "settled")
        eventually_blocking(lambda: states() == {"requested"}, what="what was held to go on")
        installation.execute("""
            insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
            select range_start + interval '3 days', 'L', 1.5, 'late', gen_random_uuid(), range_start
            from tm.archive where '2010-03-01' >= range_start and '2010-03-01' < range_end
        """)
        said = installation("retention", "release", "market_data", "2010-03-01", *LAW)
        assert "1 late rows went back" in said.out
        assert "aborted" in states()
        assert hot(installation) == 21
        eventually_blocking(lambda: installation.fetch(PUBLISHED)[0][0], what="the announcement on Kafka")
        text = installation("retention", "status").out
        assert "aborted" in text
        assert "law suit 17" in text


def test_a_restored_database_announces_nothing_before_it_was_compared_with_its_topics(
    prepared: Installation,
) -> None:
    """Nobody serves the lane meanwhile: what a verb wrote would take numbers that the topics have given already."""
    lake = {
        "TIDEMILL_LAKE_ROOT": str(prepared.folder / "lake"),
        "TIDEMILL_RETENTION_AS_OF": "2014-01-01T00:00:00Z",
    }
    installation = replace(prepared, environment={**prepared.environment, **lake})
    installation.execute(FILL.format(year=2010))
    with installation.serving("retention"):
        eventually_blocking(
            lambda: {state for *_, state in ranges(installation)} == {"requested"}, what="the requests"
        )
        eventually_blocking(lambda: installation.fetch(PUBLISHED)[0][0], what="the announcement on Kafka")
    installation.execute(SET_BACK)
    release = ("retention", "release", "market_data", "2010-03-01", *LAW)
    for _ in range(2):
        said = installation(*release, expect=1).err
        assert "HISTORY_BEHIND" in said
        assert "lanes show" in said
    assert "HISTORY_BEHIND" in installation("lanes", "show", "archival/0").out
    installation("retention", "hold", "market_data", *LAW)
    installation("retention", "release", "market_data", "--hold", "--reason", "settled")
    installation("lanes", "reconcile", "archival/0", "--reason", "restored")
    said = installation(*release, expect=1).err
    assert "was not compared with its topics since it was claimed or changed last" in said
    assert "aborted" not in {state for *_, state in ranges(installation)}
    with installation.serving("retention"):
        eventually_blocking(lambda: installation.fetch(COMPARED)[0][0], what="the lane to be compared")
        installation(*release)
    assert "aborted" in {state for *_, state in ranges(installation)}
