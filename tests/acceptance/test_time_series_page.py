"""The page about time series, followed to the letter, on real servers."""

from __future__ import annotations

from pathlib import Path

from tests.support.clients.walkthrough import File, Shell, agrees, steps

PAGE = (Path(__file__).parents[2] / "docs" / "time-series.md").read_text(encoding="utf-8")


def test_who_follows_the_page_sees_what_it_shows(shell: Shell) -> None:
    for step in steps(PAGE):
        if isinstance(step, File):
            (shell.folder() / step.path).write_text(step.text, encoding="utf-8")
            continue
        _, printed = shell.type(step.text)
        assert agrees(step.printed, printed), f"$ {step.text}\n{printed}\nbut the page says\n{step.printed}"
