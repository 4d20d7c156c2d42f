"""How the verb gets a password, and what it says of it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.waiting import HANGING_S
from tidemill.api import SignInAnswer, SignInOutcome
from tidemill.cli import session
from tidemill.cli.program import program
from tidemill.domain.errors import UsageError

ACCEPTED = SignInAnswer(SignInOutcome.ACCEPTED, key="u1")


class Desk:
    """Stands for the use-cases: what it is asked, and what it answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.answer = ACCEPTED

    @property
    def passwords(self) -> Desk:
        return self

    def verify(self, collection: str, name: str, password: str) -> SignInAnswer:
        self.asked.append((collection, name, password))
        return self.answer


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk()

    def ask(question: Callable[[Any], Any]) -> Any:
        return question(desk)

    monkeypatch.setattr(session, "ask", ask)
    return desk


def call(*options: str, stdin: str | bytes = "") -> Any:
    return CliRunner().invoke(program, ["verify-password", "users", "ann", *options], input=stdin)


@pytest.mark.parametrize(
    ("sent", "password"),
    [
        ("pears\n", "pears"),
        ("pears", "pears"),
        (" pears \n\n", " pears \n"),
        ("pe\nars", "pe\nars"),
        ("", ""),
    ],
)
def test_without_a_terminal_all_of_standard_input_but_its_last_line_break_is_the_password(
    desk: Desk, sent: str, password: str
) -> None:
    assert call(stdin=sent).exit_code == 0
    assert desk.asked == [("users", "ann", password)]


def test_bytes_that_are_no_text_are_said(desk: Desk) -> None:
    result = call(stdin=b"\xff\n")
    assert isinstance(result.exception, UsageError)
    assert "not UTF-8" in str(result.exception)
    assert desk.asked == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (ACCEPTED, 0),
        (SignInAnswer(SignInOutcome.REFUSED), 1),
        (SignInAnswer(SignInOutcome.TOO_OFTEN, retry_after_s=30.0), 1),
    ],
)
def test_the_answer_is_one_word_or_an_object_and_the_exit_code(
    desk: Desk, answer: SignInAnswer, code: int
) -> None:
    desk.answer = answer
    result = call(stdin="pears")
    assert (result.stdout, result.exit_code) == (f"{answer.outcome}\n", code)
    result = call("--json", stdin="pears")
    assert json.loads(result.stdout) == {"outcome": answer.outcome, "key": answer.key}
    assert result.exit_code == code


def test_a_password_is_never_an_argument(desk: Desk) -> None:
    assert call("pears").exit_code == 2
    assert call("--password", "pears").exit_code == 2
    assert desk.asked == []


def test_a_terminal_does_not_show_the_password() -> None:
    """No master key is set, so that the program ends once it has the password."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    command = [sys.executable, "-m", "tidemill", "verify-password", "users", "ann"]
    environment = clean | {"TIDEMILL_CONTEXTS": "users"}
    child = subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        shown = _until(ours, b"Password: ")  # the terminal shows nothing from here on
        os.write(ours, b"s3cr3t pears\n")
        shown += _until(ours, None)
        assert child.wait(HANGING_S) == 1
    finally:
        child.kill()
        os.close(ours)
    assert b"TIDEMILL_SECRET_KEYS is not set" in shown
    assert b"s3cr3t" not in shown


def _until(terminal: int, text: bytes | None) -> bytes:
    """Read until the text was shown; None: until the program has ended."""
    shown = b""
    while text is None or text not in shown:
        try:
            shown += os.read(terminal, 4_096)
        except OSError:  # what Linux says once no program has the other end
            break
    return shown
