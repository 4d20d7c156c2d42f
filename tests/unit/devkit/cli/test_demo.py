"""What `tidemill demo` says of a run: numbers that are not the planned ones, checks that fail, no flood of lines."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
import typer

from tidemill_devkit.cli import demo
from tidemill_devkit.demo.archive import Back, Forgery
from tidemill_devkit.demo.proof import DemoCheck, Example
from tidemill_devkit.demo.report import ArchiveLine, ArchivePart, DemoReport, OutcomeLine, YearLine
from tidemill_devkit.demo.watch import Hop

GOOD = DemoReport(
    ok=True,
    run="20261121-093000",
    database="tidemill_demo_20261121_093000",
    topics="tidemill-demo-20261121-093000",
    records=3,
    events=2,
    seconds={"prepare": 1.0, "process": 2.5},
    outcomes=[
        OutcomeLine("applied", None, 2, 2, Example("one", "market-data/1@0", None), "in effect"),
        OutcomeLine(
            "rejected", "INVALID", 1, 1, Example("two", "market-data/1@1", "[no] price"), "correct it"
        ),
    ],
    latest=[],
    years=[YearLine("AAPL", 2012, 705.07, 409.0)],
    archive=ArchivePart(
        ranges=[ArchiveLine(date(2008, 12, 22), date(2009, 12, 22), 1_008, 262_144, 46_080, 1, "dropped")],
        forged=Forgery(
            datetime(2008, 12, 22, tzinfo=UTC), 1_008, "quarantined", "digest a instead of b", True
        ),
        back=Back(datetime(2004, 12, 23, tzinfo=UTC), datetime(2005, 12, 23, tzinfo=UTC), 1_012, None),
        lake="run.lake",
        read="-c 'import duckdb'",
    ),
    checks=[DemoCheck("the audit balances", ok=True, detail="3 records")],
    env_file="run.env",
    look=["query latest-quotes"],
    go_on=["serve all"],
    clean_up=["demo --remove 20261121-093000"],
)
BAD = replace(
    GOOD,
    ok=False,
    outcomes=[replace(GOOD.outcomes[0], found=1), GOOD.outcomes[1]],
    checks=[
        DemoCheck("the audit balances", ok=False, detail="published, market-data/1: expected 2, found 1")
    ],
)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> DemoReport:
    found: DemoReport = request.param
    monkeypatch.setattr(demo, "_run", lambda: found)
    return found


@pytest.mark.parametrize("report", [GOOD], indirect=True)
def test_a_good_run_is_shown_with_examples(report: DemoReport, capsys: pytest.CaptureFixture[str]) -> None:
    demo.demo()
    said = capsys.readouterr().out
    assert "Everything came out as planned, in 3.5 s (prepare 1.0, process 2.5)." in said
    assert "INVALID: correct it" in said
    assert "e.g. two: [no] price" in said
    assert "705.07 409.00" in said
    assert "2008-12-22 .. 2009-12-22  1,008    256 KB  45 KB  dropped, 1 file" in said
    assert "python -c 'import duckdb'" in said
    assert "demo --remove 20261121-093000" in said


@pytest.mark.parametrize("report", [BAD], indirect=True)
def test_a_bad_run_exits_1_and_says_what_differs(
    report: DemoReport, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        demo.demo()
    said = capsys.readouterr().out
    assert ended.value.exit_code == 1
    assert "1, planned 2" in said
    assert "✗" in said
    assert "published, market-data/1: expected 2, found 1" in said
    assert "Not everything came out as planned" in said
    assert "Everything came out" not in said


@pytest.mark.parametrize("report", [BAD], indirect=True)
def test_json_is_the_report_and_the_exit_code_is_the_same(
    report: DemoReport, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        demo.demo(as_json=True)
    assert ended.value.exit_code == 1
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert said["outcomes"][0]["found"] == 1


def test_plain_progress_is_printed_now_and_then_and_when_all_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_s = [100.0]
    monkeypatch.setattr(demo, "monotonic", lambda: at_s[0])
    listener = demo.PlainListener()
    for done in (0, 1, 2, 3, 4, 4):
        listener.hops([Hop("applied", done, 4, "")])
        at_s[0] += 0.9
    lines = [line.split("  ")[-1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["applied 0/4", "applied 3/4", "applied 4/4"]
