"""The tutorial, followed to the letter, on real servers: its files, its commands, what they print."""

from pathlib import Path

import pytest

from tests.support.clients.walkthrough import File, Shell, agrees, steps

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
MAX_LINES = 59


def test_a_context_is_less_than_sixty_lines_of_python() -> None:
    files = [step for step in steps(PAGE) if isinstance(step, File) and step.path.endswith(".py")]
    counted = [file for file in files if "migrations" not in Path(file.path).parts]
    assert len(counted) == 1
    assert sum(len(file.text.splitlines()) for file in counted) <= MAX_LINES


@pytest.mark.slow
def test_who_follows_the_page_sees_what_it_shows(shell: Shell, prefix: str, programs: Path) -> None:
    failed = ""
    for step in steps(PAGE):
        if isinstance(step, File):
            assert not failed
            path = shell.folder() / step.path
            path.parent.mkdir(exist_ok=True)
            path.write_text(step.text, encoding="utf-8")
            continue
        assert not failed or step.text == "echo $?", failed
        code, printed = shell.type(step.text)
        told = f"$ {step.text}\n{printed.replace(prefix, 'tidemill')}"
        assert agrees(step.printed, printed.replace(prefix, "tidemill")), (
            f"{told}\nbut the page says\n{step.printed}"
        )
        failed = f"exit code {code}\n{told}" if code else ""
    installed = list(programs.parent.rglob("sensor_reading/migrations/*.py"))
    assert len(installed) == 1, "the wheel carries the migration"
