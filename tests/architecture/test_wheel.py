"""What is shipped: wheel and source distribution are built by the pinned back end, offline, and looked into."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.architecture import tree
from tests.architecture.test_tidy import local_links
from tests.support.waiting import HANGING_S

ROOT = Path(__file__).parents[2]


def build(target: str, source: Path, folder: Path) -> Path:
    """Build `target` from the project in `source`; return the one file that came out."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=HANGING_S)
    (built,) = folder.glob("tidemill-*")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", ROOT, folder / "built")) as archive:
        archive.extractall(folder)
    (project,) = folder.glob("tidemill-*")
    return project


def test_the_wheel_is_of_the_version_that_the_changelog_describes_first(wheel: Path) -> None:
    _, version, *_ = wheel.name.split("-")
    heading = re.search(r"^## .*$", tree.text(Path("CHANGELOG.md")), re.MULTILINE)
    assert heading is not None
    assert re.fullmatch(rf"## \[{re.escape(version)}\] - (Unreleased|\d{{4}}-\d\d-\d\d)", heading[0])


@pytest.mark.parametrize("path", tree.files(".whl"), ids=lambda path: path.stem)
def test_a_wheel_of_a_version_before_is_whole(path: Path) -> None:
    """A text that is replaced in all files would reach into it."""
    content = zipfile.ZipFile(ROOT / path)
    assert content.testzip() is None
    (about,) = (name for name in content.namelist() if name.endswith(".dist-info/METADATA"))
    _, version, *_ = path.name.split("-")
    assert f"\nVersion: {version}\n" in content.read(about).decode()


def tracked(folder: str) -> set[str]:
    command = ["git", "ls-files", "--", folder]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=HANGING_S)
    return set(listing.stdout.split())


@pytest.mark.parametrize(
    ("folder", "place"),
    [
        ("src/tidemill/", "tidemill/"),
        ("src/tidemill_devkit/", "tidemill_devkit/"),
        ("schemas", "tidemill/_schemas"),
        ("migrations", "tidemill/_migrations"),
    ],
)
def test_the_wheel_has_every_file_of_the_checkout(wheel: Path, folder: str, place: str) -> None:
    expected = {place + name.removeprefix(folder) for name in tracked(folder)}
    assert expected, f"nothing is tracked in {folder}"
    assert expected <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_has_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top.split("-")[0] for top in tops} == {"tidemill", "tidemill_devkit"}


def test_the_resolver_finds_the_folders_in_an_unpacked_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    question = (
        "from tidemill.runtime import resources as r; print(r.schemas_dir(), r.migrations_dir(), sep='\\n')"
    )
    answer = subprocess.run(
        [sys.executable, "-S", "-c", question],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
        timeout=HANGING_S,
    )
    assert answer.stdout.split() == [
        str(tmp_path / "tidemill" / name) for name in ("_schemas", "_migrations")
    ]


@pytest.mark.parametrize("page", tree.files(".md"), ids=str)
def test_the_source_distribution_has_what_its_pages_link_to(unpacked: Path, page: Path) -> None:
    assert (unpacked / page).is_file()
    assert [link for link in local_links(page) if not (unpacked / page.parent / link).exists()] == []


def test_the_wheel_that_is_built_from_the_source_distribution_is_the_same(
    wheel: Path, unpacked: Path, tmp_path: Path
) -> None:
    again = zipfile.ZipFile(build("wheel", unpacked, tmp_path))
    assert again.namelist() == zipfile.ZipFile(wheel).namelist()
