"""What follows a page sees where page and program differ."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients.walkthrough import Command, File, Shell, agrees, steps

PAGE = """
# A page

**folder/one.txt**

```text
first line
```

```console
$ cat folder/one.txt
first line
$ true
$ printf 'a\\nb\\n'
a
...
```

```bash
not typed
```
"""


def test_a_page_is_files_and_commands_in_order() -> None:
    assert list(steps(PAGE)) == [
        File("folder/one.txt", "first line\n"),
        Command("cat folder/one.txt", ["first line"]),
        Command("true", []),
        Command("printf 'a\\nb\\n'", ["a", "..."]),
    ]


@pytest.mark.parametrize(
    ("expected", "printed", "agreed"),
    [
        ([], "anything\n", True),
        (["one", "two"], "one  \n\ntwo\n", True),
        (["one", "two"], "one\n", False),
        (["one"], "one\ntwo\n", False),
        (["one", "..."], "one\ntwo\nthree\n", True),
        (["one", "..."], "two\none\n", False),
        (["...", "three"], "one\ntwo\nthree\n", True),
        (["...", "two", "..."], "one\nthree\n", False),
        (["at ... o'clock"], "at   5   o'clock\n", True),
        (["at ... o'clock"], "at 5 pm\n", False),
        (["a.b"], "axb\n", False),
        (["a.b ..."], "axb 1\n", False),
    ],
)
def test_what_is_printed_is_compared(expected: list[str], printed: str, agreed: bool) -> None:
    assert agrees(expected, printed) is agreed


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, {"PATH": "/usr/bin:/bin"}) as shell:
        yield shell


def test_a_shell_stays_what_it_became(shell: Shell, tmp_path: Path) -> None:
    assert shell.type("mkdir inner; cd inner; export GREETING=hello") == (0, "")
    assert shell.folder() == tmp_path / "inner"
    assert shell.type('echo "$GREETING"; echo trouble >&2; printf unended') == (0, "hello\ntrouble\nunended")
    assert shell.type("false") == (1, "")
    assert shell.type("echo $?") == (0, "1\n")


def test_a_command_that_does_not_end_is_given_up(shell: Shell) -> None:
    with pytest.raises(AssertionError, match="not within"):
        shell.type("sleep 60", timeout_s=0.2)
