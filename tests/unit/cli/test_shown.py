"""What verbs print for people: tables on narrow terminals, and what to do next."""

from __future__ import annotations

import pytest
import typer

from tidemill.admin.progress import StreamStatus
from tidemill.admin.records.publish import Answer, Publication
from tidemill.admin.setup.revisions import MigrationStep
from tidemill.admin.setup.topics import Prepared
from tidemill.admin.status import Status
from tidemill.cli import migrate, output, publish, session, status, topics
from tidemill.settings import Settings
from tidemill.settings.groups import RegistrySettings

COLUMNS = ("name", "owner")
RESTART = "A process that runs already knows a new context once it is restarted."
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
    with pytest.raises(typer.Exit):
        publish._judge(Publication("topic", [Answer(1, "id", 0, 0)]), wait=True)
    said = capsys.readouterr().err
    assert "was it started after the context was installed" in said
    assert "`tidemill status`" in said


def prepared(aggregate: str, new_lanes: int) -> Prepared:
    return Prepared(aggregate, 4, [], new_lanes, [], [])


@pytest.mark.parametrize(("new_lanes", "restart"), [((0, 4), True), ((4, 4), False), ((0, 0), False)])
def test_new_lanes_beside_old_ones_need_a_restart(
    new_lanes: tuple[int, int],
    restart: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = [prepared("market-data", new_lanes[0]), prepared("tide-counts", new_lanes[1])]
    monkeypatch.setattr(session, "ask", lambda _: made)
    topics.create()
    assert ("once it is restarted" in capsys.readouterr().err) == restart


@pytest.mark.parametrize(
    ("revision", "registry", "said"),
    [
        ("core_0001", None, ["Next: tidemill topics create"]),
        ("core_0001", "http://r", ["Next: tidemill schemas register, then tidemill topics create"]),
        ("tides_0001", None, ["Next: tidemill topics create", RESTART]),
    ],
)
def test_the_next_step_after_a_migration(
    revision: str,
    registry: str | None,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = Settings(registry=RegistrySettings(url=registry))
    monkeypatch.setattr(session, "settings", lambda: settings)
    migrate._say_next([MigrationStep(revision, "tables", "up")])
    assert capsys.readouterr().err.splitlines() == said
