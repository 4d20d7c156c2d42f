"""The rules can fail: each is shown what it must find and what it must leave alone."""

from pathlib import Path

import pytest

from tests.architecture import test_tidy, tree


def names(code: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "sample.py"
    path.write_text(code, encoding="utf-8")
    return [name for name, _ in tree.dotted_names(path)]


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.time()",
        "from time import time\ntime()",
        "from datetime import datetime, UTC\ndatetime.now(UTC)",
        "import datetime as dt\nfield(default_factory=dt.datetime.utcnow)",
        "from datetime import date as day\nday.today()",
    ],
)
def test_a_reading_of_the_wall_clock_is_seen(code: str, tmp_path: Path) -> None:
    assert [name for name in names(code, tmp_path) if test_tidy.WALL_CLOCK.search(name)]


@pytest.mark.parametrize(
    "code", ["import time\ntime.monotonic()", "clock.now()", "from time import perf_counter as t\nt()"]
)
def test_other_clocks_are_left_alone(code: str, tmp_path: Path) -> None:
    assert not [name for name in names(code, tmp_path) if test_tidy.WALL_CLOCK.search(name)]


@pytest.mark.parametrize(
    "code", ["import asyncio\nasyncio.sleep(1)", "from time import sleep as nap\nnap(1)"]
)
def test_a_nap_is_seen(code: str, tmp_path: Path) -> None:
    assert [name for name in names(code, tmp_path) if test_tidy.NAP.search(name)]


def test_a_function_counts_without_its_docstring(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        'def f():\n    """One.\n\n    Two.\n    """\n    return 1\n\n\ndef g(): ...\n', encoding="utf-8"
    )
    assert [(f.name, f.lines, f.is_stub) for f in tree.functions(path)] == [("f", 2, False), ("g", 1, True)]


def test_only_what_is_not_allowed_is_an_offence_and_an_idle_exception_is_named() -> None:
    findings = ["a.py: 500 lines", "b.py:3: time.sleep"]
    assert test_tidy.broken(findings, {"a.py": "big", "c.py": "gone"}) == (["b.py:3: time.sleep"], ["c.py"])


@pytest.mark.parametrize("line", ["# TO" + "DO: later", "FIX" + "ME"])
def test_an_unfinished_line_is_seen(line: str) -> None:
    assert test_tidy.UNFINISHED.search(line)


@pytest.mark.parametrize(
    "line", ["--index-" + "url https://index.example/simple", "see https:" + "//mirror.debian.example/x"]
)
def test_an_address_of_a_registry_is_seen(line: str) -> None:
    assert test_tidy.REGISTRY.search(line)


def test_a_path_of_a_machine_is_seen_and_a_path_in_an_image_is_not() -> None:
    assert test_tidy.MACHINE_PATH.search("cd /ro" + "ot/code")
    assert not test_tidy.MACHINE_PATH.search("$HOME/work/x, src/work/, /var/lib/postgresql")


def test_links_in_code_blocks_and_on_the_web_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    page = "[a](b.md#c) [w](https://example.org/x)\n```\n[no](gone.md)\n```\n[r]: d/e.md\n"
    monkeypatch.setattr(tree, "text", lambda _: page)
    assert list(test_tidy.local_links(Path("page.md"))) == ["b.md", "d/e.md"]
