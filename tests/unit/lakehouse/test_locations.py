"""What a message may make us read: nothing but what lies below an allowed root."""

from pathlib import Path

import fsspec
import pytest

from tests.unit.lakehouse.test_copies import COLUMNS, MARCH, batches
from tidemill.domain.errors import PathRefused, UsageError
from tidemill.lakehouse.locations import LakeLocation, allowed
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.reader import LakeReader


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    for name in ("lake", "lake-of-others", "lake/inner"):
        (tmp_path / name).mkdir()
    (tmp_path / "secret.parquet").touch()
    (tmp_path / "lake" / "out").symlink_to(tmp_path / "lake-of-others")
    (tmp_path / "lake" / "secret.parquet").symlink_to(tmp_path / "secret.parquet")
    (tmp_path / "lake" / "within").symlink_to(tmp_path / "lake" / "inner")
    return tmp_path / "lake"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "relative.parquet",
        "{root}/../secret.parquet",
        "{root}/inner/../../secret.parquet",
        "{root}-of-others/x.parquet",
        "{root}/out/x.parquet",
        "{root}/secret.parquet",
        "file://{root}/../secret.parquet",
        "file://host{root}/x.parquet",
        "simplecache::file://{root}/x.parquet",
        "zip://x.parquet::file://{root}/x.zip",
        "memory://lake/x.parquet",
        "s3://bucket/x.parquet",
        "http://127.0.0.1{root}/x.parquet",
        "{root}/x\0.parquet",
        "{root}/x\n.parquet",
        "~/x.parquet",
    ],
)
def test_a_local_root_refuses(lake: Path, path: str) -> None:
    with pytest.raises(PathRefused):
        allowed(path.replace("{root}", str(lake)), [LakeLocation.of_root(str(lake))])


@pytest.mark.parametrize(
    "path", ["{root}", "{root}/x.parquet", "file://{root}/a/x", "{root}//a/./x", "{root}/within/x"]
)
def test_a_local_root_allows_what_is_below(lake: Path, path: str) -> None:
    place = allowed(path.replace("{root}", str(lake)), [LakeLocation.of_root(f"file://{lake}/")])
    assert Path(place.path).is_relative_to(lake)


@pytest.mark.parametrize(
    "path",
    [
        "memory://other/x",
        "memory://lake-of-others/x",
        "memory://lake/../x",
        "/lake/x",
        "lake/x",
        "file:///lake/x",
        "s3://lake/x",
    ],
)
def test_a_store_refuses(path: str) -> None:
    with pytest.raises(PathRefused):
        allowed(path, [LakeLocation.of_root("memory://lake")])


def test_a_store_allows_what_is_below() -> None:
    assert (
        allowed("memory://lake/a/x.parquet", [LakeLocation.of_root("memory://lake/")]).path
        == "/lake/a/x.parquet"
    )


def test_without_roots_nothing_is_allowed(lake: Path) -> None:
    with pytest.raises(PathRefused):
        allowed(str(lake), [])


def test_a_link_among_the_files_of_a_path_is_not_followed_out(lake: Path) -> None:
    LakeWriter(str(lake)).write(MARCH, "event-1", COLUMNS, "at", batches())
    with pytest.raises(PathRefused):
        LakeReader([str(lake)]).split_by_bounds(str(lake), COLUMNS, "at", [(MARCH.start, MARCH.end)])


def test_every_way_to_read_asks_first(lake: Path) -> None:
    reader = LakeReader([str(lake)])
    outside = str(lake.parent / "secret.parquet")
    for read in (
        lambda: reader.read_back([outside], COLUMNS, "at"),
        lambda: reader.split_by_bounds(outside, COLUMNS, "at", []),
        lambda: list(reader.copy_parts([outside], COLUMNS, "at")),
        lambda: list(reader.manifests(str(lake.parent), "public.ticks")),
    ):
        with pytest.raises(PathRefused):
            read()


def test_a_storage_that_is_not_installed_is_said_so() -> None:
    with pytest.raises(UsageError, match="nosuch://lake cannot be opened"):
        LakeLocation.of_root("nosuch://lake")
    assert "memory" in fsspec.available_protocols()
