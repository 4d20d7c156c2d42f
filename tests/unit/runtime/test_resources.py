from pathlib import Path

import pytest

from tidemill.runtime import resources


def make_package(root: Path) -> Path:
    package = root / "src" / "tidemill"
    package.mkdir(parents=True)
    return package


def test_this_checkout_has_both_folders() -> None:
    assert list(resources.schemas_dir().rglob("*.avsc"))
    assert list(resources.migrations_dir().rglob("*.py"))


def test_a_checkout_is_read_at_its_top(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    (tmp_path / "schemas").mkdir()
    assert resources._find("schemas", package) == tmp_path / "schemas"


def test_what_was_shipped_wins_over_a_folder_that_happens_to_lie_around(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    (tmp_path / "schemas").mkdir()
    (package / "_schemas").mkdir()
    assert resources._find("schemas", package) == package / "_schemas"


def test_a_missing_folder_says_where_it_was_looked_for(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"_migrations nor .*migrations"):
        resources._find("migrations", package)
