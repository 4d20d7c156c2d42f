"""Which revisions a deployment needs: the core's, and those of its contexts."""

from pathlib import Path

import pytest

from tidemill.domain.errors import ContractError
from tidemill.storage.migrations.folders import Contexts, needed_revisions
from tidemill.storage.migrations.migrate import upgrade_sql
from tidemill.storage.migrations.revisions import (
    alembic_config,
    branch_of,
    is_needed,
    needed_heads,
    next_revision,
    own_revisions,
    script_directory,
)

MIGRATIONS = Path(__file__).parents[4] / "migrations"
EVERY = {each.parent.name for each in MIGRATIONS.glob("*/0001_*.py")}


def plug_in(folder: Path, branch: str) -> Path:
    """Write the first revision of a plug-in."""
    folder.mkdir()
    (folder / "0001_it.py").write_text(
        f'"""It."""\nrevision, down_revision, branch_labels = "{branch}_0001", None, ("{branch}",)\n'
        'depends_on = "core_0001"\n\ndef upgrade():\n    pass\n'
    )
    return folder


def needed(contexts: Contexts) -> set[str]:
    config = alembic_config(contexts)
    return {branch_of(each) for each in own_revisions(script_directory(config)) if is_needed(each, config)}


def known(contexts: Contexts) -> set[str]:
    return {branch_of(each) for each in own_revisions(script_directory(alembic_config(contexts)))}


def by_alembic(contexts: Contexts) -> set[str]:
    config = alembic_config(contexts)
    return {each.revision for each in own_revisions(script_directory(config)) if is_needed(each, config)}


def test_the_names_are_those_that_alembic_reads(tmp_path: Path) -> None:
    """A process that starts reads them without it."""
    folder = plug_in(tmp_path / "it", "its_own")
    (folder / "0002_more.py").write_text(
        'revision: str = "its_own_0002"\ndown_revision = "its_own_0001"\n\ndef upgrade():\n    pass\n'
    )
    for contexts in (None, {}, {"market_data": None}, {"it": folder, "users": None}):
        names = needed_revisions(contexts)
        assert set(names) == by_alembic(contexts)
        assert len(names) == len(set(names))
        assert names[0] == "core_0001"


def test_a_file_that_names_no_revision_is_named(tmp_path: Path) -> None:
    folder = plug_in(tmp_path / "it", "its_own")
    (folder / "0002_more.py").write_text("revision = make_name()\n")
    with pytest.raises(ContractError, match=r"0002_more\.py does not name its revision"):
        needed_revisions({"it": folder})


def test_by_default_every_built_in_context_is_needed() -> None:
    assert needed(None) == EVERY


def test_what_is_not_chosen_is_known_and_not_needed() -> None:
    """A database may have it from before."""
    assert needed({"market_data": None}) == {"core", "market_data"}
    assert needed({}) == {"core"}
    assert known({}) == EVERY


def test_a_plug_in_brings_its_folder_whatever_its_branch_is_called(tmp_path: Path) -> None:
    folder = plug_in(tmp_path / "it", "its_own")
    assert needed({"tide_gauge": folder}) == {"core", "its_own"}
    assert "its_own_0001" in needed_heads(alembic_config({"tide_gauge": folder}))


def test_a_plug_in_takes_the_place_of_a_built_in_context_of_its_name(tmp_path: Path) -> None:
    folder = plug_in(tmp_path / "it", "market_data")
    assert needed({"market_data": folder}) == {"core", "market_data"}
    assert known({"market_data": folder}) == EVERY
    heads = needed_heads(alembic_config({"market_data": folder}))
    assert {head for head in heads if head.startswith("market")} == {"market_data_0001"}


def test_a_context_without_migrations_needs_the_core_alone() -> None:
    assert needed({"fuse": None}) == {"core"}


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=f"no folder of migrations at {tmp_path / 'x'}"):
        alembic_config({"x": tmp_path / "x"})


def test_the_next_revision_is_at_the_end_of_its_folder(tmp_path: Path) -> None:
    first = next_revision("tide_gauge", tmp_path / "it")
    assert (first.name, first.earlier) == ("tide_gauge_0001", ())
    folder = plug_in(tmp_path / "it", "tide_gauge")
    second = next_revision("tide_gauge", folder)
    assert (second.name, second.folder, second.earlier) == ("tide_gauge_0002", folder, ("tide_gauge_0001",))
    assert next_revision("market_data").earlier[-1] == "market_data_0003"


def test_a_branch_with_two_ends_has_no_next_revision(tmp_path: Path) -> None:
    folder = plug_in(tmp_path / "it", "tide_gauge")
    for name in "ab":
        (folder / f"0002_{name}.py").write_text(
            f'revision, down_revision = "tide_gauge_{name}", "tide_gauge_0001"\n\ndef upgrade():\n    pass\n'
        )
    with pytest.raises(
        ContractError, match="tide_gauge has two newest revisions, tide_gauge_a and tide_gauge_b"
    ):
        next_revision("tide_gauge", folder)


def test_the_sql_is_that_of_the_chosen_contexts() -> None:
    sql = upgrade_sql({"connector_profiles": None})
    assert "create table public.connector_profiles" in sql
    assert "public.market_data" not in sql
    assert "create table public.market_data" in upgrade_sql()
