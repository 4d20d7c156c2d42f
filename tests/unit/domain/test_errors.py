"""What an error carries: a program reads code, fields and advice, a person one sentence."""

from __future__ import annotations

import json

import pytest

from tidemill.cli import output, session
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import (
    CommitUnknown,
    ContractError,
    CopyError,
    DataError,
    Fenced,
    LaneHalted,
    NewerSchema,
    NotCompared,
    PathRefused,
    TableMisfit,
    TidemillError,
    TransientError,
    Unavailable,
    Unreadable,
    UsageError,
)
from tidemill.domain.rejections import HaltCode, ParkingCode
from tidemill.storage.database.errors import NotAsExpected, meaning
from tidemill.storage.migrations.applied import NotMigrated
from tidemill.storage.migrations.session import MigrationBlocked

SAID = [
    (UsageError("no such file"), "USAGE", "no such file"),
    (ContractError("two commands of one name"), "CONTRACT", "two commands of one name"),
    (TableMisfit("no column x"), "TABLE_MISFIT", "TABLE_MISFIT: no column x"),
    (Unreadable(ParkingCode.MALFORMED, "3 bytes"), "MALFORMED", "MALFORMED: 3 bytes"),
    (Unavailable("kafka", "timed out"), "UNAVAILABLE", "kafka is not available: timed out"),
    (
        NotCompared(7, "since its claim"),
        "NOT_COMPARED",
        (
            "lane 7 was not compared with its topics since its claim: whoever serves it does so at its next claim; "
            "start that, or wait until it has"
        ),
    ),
    (CommitUnknown(), "COMMIT_UNKNOWN", ""),
    (DataError("22003", "out of range"), "DATA_REFUSED", "22003: out of range"),
    (Fenced(frozenset({3, 1})), "FENCED", "lanes [1, 3] were claimed by another process"),
    (
        LaneHalted(7, HaltCode.OUTBOX_GAP, "4 misses"),
        "OUTBOX_GAP",
        "lane 7 halted, OUTBOX_GAP: 4 misses; see `tidemill lanes show 7`",
    ),
    (CopyError("/lake/a", "no file"), "COPY_UNUSABLE", "the copy at /lake/a cannot be used: no file"),
    (PathRefused("/etc", "outside"), "PATH_REFUSED", "the copy at /etc cannot be used: outside"),
    (
        NotMigrated(["core_0001", "core_0002"]),
        "NOT_MIGRATED",
        "the database lacks the migrations core_0001, core_0002: run `tidemill migrate`",
    ),
    (
        NotAsExpected("no table x"),
        "DATABASE_DIFFERS",
        (
            "the database is not what this version expects: no table x; `tidemill migrate --status` shows whether a "
            "migration is missing; if none is, it was changed by hand"
        ),
    ),
    (
        MigrationBlocked("a lock", 4.0, ["psql of me"]),
        "MIGRATION_BLOCKED",
        (
            "waited 4 s for a lock, held by psql of me. Wait for that session or end it, then migrate again: what was "
            "applied before stays."
        ),
    ),
    (
        meaning("28P01", "password"),
        "LOGIN_REFUSED",
        "the database refuses this login: 28P01: password; see TIDEMILL_DATABASE_URL and its role",
    ),
]


@pytest.mark.parametrize(("error", "code", "text"), SAID, ids=lambda value: getattr(value, "code", None))
def test_an_error_has_a_code_an_advice_and_a_sentence(error: TidemillError, code: str, text: str) -> None:
    assert (error.code, str(error)) == (code, text)
    assert error.advice
    assert "{" not in error.advice
    assert str(error) in (error.fact, error.fact + (error.kind.joint or "") + error.advice, text)
    json.dumps(output.problem(error))


def test_a_raise_may_name_a_finer_code_than_its_class() -> None:
    error = UsageError("there is no code 'X'", code=ErrorCode.UNKNOWN_NAME, name="X", choices=("A", "B"))
    assert str(error) == "there is no code 'X': choose one of A, B"
    assert (error.fact, error.kind, error.code) == ("there is no code 'X'", "USAGE", "UNKNOWN_NAME")
    assert error.fields == {"name": "X", "choices": ("A", "B")}


def test_values_are_fields() -> None:
    newer = NewerSchema("a field", schema="4", type_name="a.B", service=None)
    assert newer.fields == {"detail": "a field", "schema": "4", "type_name": "a.B", "service": None}
    assert newer.advice == ParkingCode.NEWER_SCHEMA.advice
    assert LaneHalted(7, HaltCode.OUTBOX_GAP, "x").fields["lane"] == 7
    assert TransientError("busy").fields == {}


def test_a_program_is_told_an_error_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "without_secrets", lambda text: text.replace('se"cret', "***"))
    monkeypatch.setattr(session, "read_by_program", True)
    code = output.fail(UsageError('no se"cret', code=ErrorCode.UNKNOWN_LANE, lane="a/1"))
    captured = capsys.readouterr()
    *said, last = captured.err.splitlines()
    assert (code, captured.out) == (output.USAGE, "")
    assert said == ["Error: no ***: see `tidemill lanes list`"]
    assert json.loads(last) == {
        "error": {
            "code": "UNKNOWN_LANE",
            "kind": "USAGE",
            "message": "no ***: see `tidemill lanes list`",
            "advice": "see `tidemill lanes list`",
            "fields": {"lane": "a/1"},
        }
    }


def test_a_person_is_told_a_sentence_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "read_by_program", False)
    assert output.fail(TransientError("it is locked")) == output.FAILED
    assert capsys.readouterr().err == "Error: it is locked\n"
