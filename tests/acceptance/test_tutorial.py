"""The tutorial, followed to the letter, on real servers: its files, its commands, what they print."""

from pathlib import Path

import pytest

from tests.support.clients.walkthrough import File, Shell, agrees, steps

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
MAX_LINES = {"entity": 25, "facts": 50}


def test_an_entity_is_at_most_25_lines_of_python_and_facts_are_at_most_50() -> None:
    """Lines with something on them: white space between classes is the formatter's."""
    lines = dict.fromkeys(MAX_LINES, 0)
    for file in (step for step in steps(PAGE) if isinstance(step, File) and step.path.endswith(".py")):
        kind = "facts" if "readings" in Path(file.path).parts else "entity"
        lines[kind] += sum(bool(line.strip()) for line in file.text.splitlines())
    assert all(0 < lines[kind] <= MAX_LINES[kind] for kind in MAX_LINES), lines


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
    installed = sorted(path.parent.parent.name for path in programs.parent.rglob("migrations/*.py"))
    assert installed == ["readings", "sensors"], "the wheel carries the migrations of both contexts"
