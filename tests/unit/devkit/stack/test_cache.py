import threading
from pathlib import Path

import pytest

from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill_devkit.stack.cache import Part, cache_folder, ensure, locked, remove_tree

PART = Part("thing", "1.0", "how to make it")


def build(folder: Path) -> None:
    (folder / "program").write_text("works")


def test_the_cache_is_where_the_environment_says() -> None:
    assert cache_folder({"TIDEMILL_CACHE": "/somewhere", "XDG_CACHE_HOME": "/xdg"}) == Path("/somewhere")
    assert cache_folder({"XDG_CACHE_HOME": "/xdg"}) == Path("/xdg/tidemill")
    assert cache_folder({}) == Path.home() / ".cache/tidemill"


def test_a_part_is_built_once(tmp_path: Path) -> None:
    first = ensure(PART, build, cache=tmp_path)
    (first / "program").write_text("the same one")
    assert ensure(PART, build, cache=tmp_path) == first
    assert (first / "program").read_text() == "the same one"


def test_another_recipe_or_version_is_another_part(tmp_path: Path) -> None:
    others = [Part("thing", "1.1", PART.recipe), Part("thing", "1.0", "otherwise")]
    folders = {part.folder(tmp_path) for part in (PART, *others)}
    assert len(folders) == 3


def test_a_half_written_part_is_replaced(tmp_path: Path) -> None:
    half = PART.folder(tmp_path)
    half.mkdir(parents=True)
    (half / "program").write_text("half")
    (half / "remains").touch()
    assert not PART.is_installed(tmp_path)
    assert (ensure(PART, build, cache=tmp_path) / "program").read_text() == "works"
    assert not (half / "remains").exists()


def test_what_interrupted_runs_left_is_removed(tmp_path: Path) -> None:
    leftover = PART.folder(tmp_path).with_name(PART.folder(tmp_path).name + ".partial-1")
    (leftover / "deep").mkdir(parents=True)
    ensure(PART, build, cache=tmp_path)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [PART.folder(tmp_path).name]


def test_a_failed_build_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        build(folder)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        ensure(PART, fail, cache=tmp_path)
    assert list((tmp_path / "parts").iterdir()) == []
    assert (ensure(PART, build, cache=tmp_path) / "program").read_text() == "works"


def test_two_at_once_build_once(tmp_path: Path) -> None:
    go_on, waiting, builds = threading.Event(), threading.Event(), []

    def slow(folder: Path) -> None:
        builds.append(folder)
        assert go_on.wait(HANGING_S)
        build(folder)

    first = threading.Thread(target=lambda: ensure(PART, slow, cache=tmp_path))
    first.start()
    eventually_blocking(lambda: builds, what="the first build has begun")
    second = threading.Thread(target=lambda: ensure(PART, slow, cache=tmp_path, on_wait=waiting.set))
    second.start()
    assert waiting.wait(HANGING_S), "the second is told that it waits"
    go_on.set()
    first.join(HANGING_S)
    second.join(HANGING_S)
    assert len(builds) == 1
    assert PART.is_installed(tmp_path)


def test_a_lock_is_exclusive_and_leaves_no_file(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(50):
            with locked("it", cache=tmp_path):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANGING_S)
    assert most == [1]
    assert list((tmp_path / "locks").iterdir()) == []


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")
