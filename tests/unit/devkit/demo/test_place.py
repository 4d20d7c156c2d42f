"""What a run of the demo leaves: a file for its owner only, and how to take everything down again."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.devkit.demo.test_processes import PLACE
from tidemill_devkit.demo.place import LATEST, DemoSite, _remove_env_file
from tidemill_devkit.demo.report import clean_up


@pytest.mark.parametrize(("owned", "after"), [(True, ["dev down"]), (False, [])])
def test_only_servers_of_our_own_are_taken_down(owned: bool, after: list[str]) -> None:
    place = replace(PLACE, servers=replace(PLACE.servers, owned=owned))
    assert clean_up(place) == [f"demo --remove {PLACE.run}", *after]


def test_the_variables_with_their_passwords_are_for_the_owner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.env"
    file.touch(mode=0o644)
    monkeypatch.setattr(DemoSite, "env_file", property(lambda _: file))
    PLACE.write_env_file()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "TIDEMILL_DATABASE_URL=postgresql://a:b@" in file.read_text()


def test_the_newest_run_has_a_name_that_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = {run: tmp_path / f"{run}.env" for run in ("20261121-093000", "20261121-093000-2")}
    monkeypatch.setattr(DemoSite, "env_file", property(lambda site: written[site.run]))
    older, newer = (replace(PLACE, run=run) for run in written)
    older.write_env_file()
    newer.write_env_file()
    assert (tmp_path / LATEST).resolve() == newer.env_file
    _remove_env_file(older.env_file)
    assert (tmp_path / LATEST).resolve() == newer.env_file
    _remove_env_file(newer.env_file)
    assert list(tmp_path.iterdir()) == []
