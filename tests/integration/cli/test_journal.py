"""What operators do by hand is in the journal, which `tidemill audit --journal` checks, beside ends that are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.databases import execute, fetch
from tests.support.servers.installation import Installation
from tidemill.security.by_hand import operator

ENTRIES = """
select kind, action, principal, detail::text as detail from tm.journal
where kind <> 'anchor' order by at, writer, number
"""


@pytest.fixture
def with_lanes(installation: Installation) -> Installation:
    """Topics and lanes exist; nothing serves."""
    installation("topics", "create")
    return installation


def entries(installation: Installation) -> list[dict[str, Any]]:
    rows = fetch(installation.database, ENTRIES)
    return [dict(row) | {"detail": json.loads(row["detail"])} for row in rows]


def test_a_decision_is_journalled_with_its_operator_and_its_end(with_lanes: Installation) -> None:
    held = ("retention", "hold", "public.market_data", "--from", "2010-01-01", "--reason", "lawsuit 17")
    with_lanes(*held)
    with_lanes("lanes", "resume", "market-data/0", expect=2)
    hold, done, resume, failed = entries(with_lanes)
    assert (hold["kind"], hold["action"], hold["principal"]) == ("intent", "retention hold", operator())
    assert hold["detail"] == {
        "table": "public.market_data",
        "start": "2010-01-01T00:00:00+00:00",
        "reason": "lawsuit 17",
    }
    assert (done["kind"], done["action"]) == ("outcome", "done")
    assert (resume["action"], resume["detail"]["lane"]) == ("lanes resume", "market-data/0")
    assert (failed["kind"], failed["action"]) == ("outcome", "failed")
    assert failed["detail"]["code"]
    audit = with_lanes("audit", "--journal", "--json").json()
    assert audit["intact"] is True
    assert (audit["chains"], audit["open_count"]) == (2, 0)


def test_a_verb_that_cannot_be_journalled_does_nothing(with_lanes: Installation) -> None:
    execute(
        with_lanes.database,
        "create function tm.refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'no room' using errcode = '53100'; end $$",
        "create trigger refuse before insert on tm.journal execute function tm.refuse()",
    )
    told = with_lanes("retention", "hold", "public.market_data", "--reason", "x", expect=1)
    assert "no room" in told.err
    assert fetch(with_lanes.database, "select from tm.archive_hold") == []


def test_a_journal_that_was_changed_ends_with_1_and_names_the_entry(with_lanes: Installation) -> None:
    for reason in ("one", "two"):
        with_lanes("retention", "hold", "public.market_data", "--reason", reason)
    kept = with_lanes.folder / "journal.anchors"
    whole = with_lanes("audit", "--journal", "--write-anchor", str(kept))
    assert "The journal is whole" in whole.out
    assert "--anchor" in whole.err
    assert len(kept.read_text().splitlines()) == 2
    compared = with_lanes("audit", "--journal", "--anchor", str(kept))
    assert "2 anchors compared" in compared.out
    execute(
        with_lanes.database,
        "alter table tm.journal disable trigger append_only",
        "delete from tm.journal where writer = (select min(writer::text)::uuid from tm.journal)",
        "update tm.journal set principal = 'mallory' where kind = 'intent'",
    )
    changed = with_lanes("audit", "--journal", "--anchor", str(kept), "--json", expect=1).json()
    assert changed["intact"] is False
    assert {finding["fault"] for finding in changed["findings"]} == {"CHANGED", "CUT_OFF"}
    before = kept.read_text()
    told = with_lanes("audit", "--journal", "--write-anchor", str(kept), expect=1)
    assert "CHANGED" in told.out
    assert kept.read_text() == before


def test_what_is_open_is_listed_and_is_no_finding(with_lanes: Installation) -> None:
    with_lanes("retention", "hold", "public.market_data", "--reason", "x")
    execute(
        with_lanes.database,
        "alter table tm.journal disable trigger append_only",
        "delete from tm.journal where kind = 'outcome'",
        "alter table tm.journal enable trigger append_only",
    )
    audit = with_lanes("audit", "--journal", "--json").json()
    (entry,) = audit["open"]
    assert (entry["action"], entry["resolution"]) == ("retention hold", "not known")
    assert "Begun without an outcome: 1" in with_lanes("audit", "--journal").out


def test_wrong_calls_say_what_is_wrong(installation: Installation, tmp_path: Path) -> None:
    broken = tmp_path / "broken.anchors"
    broken.write_text("{}\n")
    assert "options of --journal" in installation("audit", "--anchor", str(broken), expect=2).err
    assert "line 1" in installation("audit", "--journal", "--anchor", str(broken), expect=2).err
    missing = installation("audit", "--journal", "--anchor", str(tmp_path / "missing"), expect=2)
    assert "cannot be read" in missing.err
    folder = installation("audit", "--journal", "--write-anchor", str(tmp_path / "none" / "file"), expect=2)
    assert "cannot be written" in folder.err
