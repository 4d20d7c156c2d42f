import io

import pytest

from tidemill_devkit.stack.progress import LiveRows, PlainLines, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_one_line_per_step() -> None:
    out = io.StringIO()
    with shown(out) as progress:
        assert isinstance(progress, PlainLines)
        progress.step("kafka", "starting")
        progress.detail("kafka", "downloading 1 of 92")
        progress.done("kafka", "answers")
    lines = out.getvalue().splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == ["kafka     starting", "kafka     answers"]


def test_a_terminal_gets_live_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with shown(out) as progress:
        assert isinstance(progress, LiveRows)
        progress.step("kafka", "starting [all of it]")
        progress.detail("kafka", "downloading")
        progress.done("kafka", "answers")
    assert "answers" in out.getvalue()
