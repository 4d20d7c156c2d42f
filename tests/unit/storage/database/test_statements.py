"""Named SQL is found, and a broken file is refused at start."""

from pathlib import Path

import pytest

from tidemill.domain.errors import ContractError
from tidemill.storage.database.statements import load_statements


def _file(folder: Path, text: str) -> Path:
    path = folder / "part.sql"
    path.write_text(text)
    return path


def test_each_name_gives_its_statement(tmp_path: Path) -> None:
    text = "-- about\n\n-- name: one\nselect 1; -- first\n\n-- name: two\n-- kept\nselect\n  2;\n"
    statements = load_statements(_file(tmp_path, text))
    assert dict(statements) == {"one": "select 1; -- first", "two": "-- kept\nselect\n  2"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("-- name: a\nselect 1\n-- name: a\nselect 2\n", "two statements are named a"),
        ("-- name: a\n-- name: b\nselect 1\n", "nothing follows the name a"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ContractError, match=told):
        load_statements(_file(tmp_path, text))


def test_a_missing_file_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"absent\.sql"):
        load_statements(tmp_path / "absent.sql")
