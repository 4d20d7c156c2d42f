"""Unpacking the registry with the oldest Python that is promised."""

import tarfile
from pathlib import Path

import pytest

from tidemill_devkit.stack import java, registry


def test_the_registry_unpacks_with_a_python_that_knows_no_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python 3.11.2 is Debian 12's; filters came with 3.11.4
    unpacked: dict[str, list[str]] = {}

    def extractall(
        tar: tarfile.TarFile, path: Path, members: None = None, *, numeric_owner: bool = False
    ) -> None:
        unpacked[path.name] = tar.getnames()

    def fetch(_pom: str, folder: Path, **_more: object) -> None:
        folder.mkdir()
        (tmp_path / "runner.jar").touch()
        with tarfile.open(folder / "app.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "runner.jar", arcname="runner.jar")

    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    monkeypatch.setattr(tarfile.TarFile, "extractall", extractall)
    monkeypatch.setattr(java, "fetch", fetch)

    registry.build(tmp_path, tmp_path / "log", print)

    assert unpacked == {"app": ["runner.jar"]}
    assert list((tmp_path / "archives").iterdir()) == []
