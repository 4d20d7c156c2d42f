"""What verbs print for people: tables on narrow terminals, and what to do next."""

from __future__ import annotations

import pytest

from tidemill.admin.progress import StreamStatus
from tidemill.admin.records.publish import Answer, Publication
from tidemill.admin.status import Status
from tidemill.cli import output, publish, status

COLUMNS = ("name", "owner")
OWNER = "commands a-host-with-a-long-name.example.com 4711 " + "x" * 60


def test_the_last_column_gives_way_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.print_table(COLUMNS, [("deliveries/0", OWNER), ("deliveries/1", None)], last_is_cut=True)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if "deliveries/" in line]
    assert len(lines) == 2
    assert lines[0].endswith("\N{HORIZONTAL ELLIPSIS}")
    assert len(lines[0]) <= 60


def test_nothing_is_cut_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(COLUMNS, [("deliveries/0", OWNER)], last_is_cut=True)
    assert OWNER in capsys.readouterr().out


def stream(aggregate: str, owned: int) -> StreamStatus:
    return StreamStatus(aggregate, 4, owned, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("owned", "said"),
    [
        ((4, 0), "No process owns a lane of tide-counts: restart `tidemill serve`"),
        ((0, 0), "No process owns a lane: start one"),
        ((4, 4), ""),
    ],
)
def test_a_context_that_no_process_knows_yet_needs_a_restart(
    owned: tuple[int, int], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status._show(Status([stream("market-data", owned[0]), stream("tide-counts", owned[1])], [], []))
    assert capsys.readouterr().err.startswith(said)


def test_who_waits_in_vain_is_asked_for_a_restart_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(publish.typer.Exit):
        publish._judge(Publication("topic", [Answer(1, "id", 0, 0)]), wait=True)
    said = capsys.readouterr().err
    assert "was it started after the context was installed" in said
    assert "`tidemill status`" in said
