"""Every path of the repository that a page names exists, and what it says about the house is so."""

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.architecture import tree

ARCHITECTURE = Path("docs/architecture.md")
CONTRIBUTING = Path("CONTRIBUTING.md")
TUTORIAL = Path("docs/tutorial.md")  # its paths are those of the package that it makes
HISTORY = Path("CHANGELOG.md")  # names modules as they were
PRODUCT = Path("src/tidemill")
PAGES = [page for page in tree.files(".md") if page not in (TUTORIAL, HISTORY)]
ALL_PAGES = [pytest.param(page, id=str(page)) for page in PAGES]

TOPS = {path.parts[0] for path in tree.files() if len(path.parts) > 1}
FOLDERS = {path.parts[2] for path in tree.files() if path.parts[:2] == PRODUCT.parts and len(path.parts) > 3}
FILES = set(tree.files())
ENDING = re.compile(r"[\w-]+\.(?:py|sql|md|toml|txt|yml|avsc|service|mako)")
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")
MODULE = re.compile(r"tidemill(?:_devkit)?(?:\.[a-z_]+)+")
NO_MODULES = {
    "tidemill.contexts": "also a group of entry points",
    "tidemill.expiry": "a service, as the log names it",
    "tidemill.superseded": "a service, as the log names it",
}
IN_THE_WHEEL = {"tidemill/_schemas", "tidemill/_migrations"}


def quoted(page: Path) -> set[str]:
    prose = re.sub(r"^```.*?^```", "", tree.text(page), flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", prose))


def programs(page: Path) -> set[str]:
    """The files that the page itself gives the text of: the first line of a program is its name."""
    return set(re.findall(r"^```\w+\n(?:#|//) (\S+)\n", tree.text(page), re.MULTILINE))


def named_paths(page: Path) -> set[str]:
    """What stands there as a path: below a folder of the repository or of the product, or with a known ending."""
    words = {word for word in quoted(page) if PATH.fullmatch(word)}
    below = {
        word for word in words if "/" in word and word.split("/")[0] in TOPS | FOLDERS | {"tidemill_devkit"}
    }
    return (below | {word for word in words if ENDING.fullmatch(word)}) - programs(page) - IN_THE_WHEEL


def exists(name: str, page: Path) -> bool:
    """A path is given from the root, from `src`, from the product or from the page; a name alone may be anywhere."""
    if "/" not in name:
        return any(path.name == name for path in FILES)
    places = [Path(), Path("src"), PRODUCT, page.parent]
    return any((tree.ROOT / place / name).exists() for place in places)


@pytest.mark.parametrize("page", ALL_PAGES)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    assert sorted(name for name in named_paths(page) if not exists(name, page)) == []


@pytest.mark.parametrize("page", ALL_PAGES)
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    names = {word for word in quoted(page) if MODULE.fullmatch(word)} - NO_MODULES.keys()
    assert sorted(name for name in names if find_spec(name) is None) == []


def test_a_path_that_does_not_exist_is_seen() -> None:
    assert named_paths(ARCHITECTURE) >= {"commands/batch.py", "storage/outbox", "tests/fakes", "ports.py"}
    assert not exists("commands/cashbook.py", ARCHITECTURE)
    assert not exists("storage/cellar", ARCHITECTURE)
    assert not exists("cashbook.py", ARCHITECTURE)


# --- the house -------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_contract_of_the_layers() -> None:
    contracts = tomllib.loads(tree.text(Path("pyproject.toml")))["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["id"] == "layers")
    below = tree.text(ARCHITECTURE).split("\n## Where things are\n")[1]
    shown = re.search(r"^```text\n(.*?)^```", below, re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert [line.strip() for line in shown[1].splitlines()] == layers


def test_the_page_describes_every_folder_of_the_product() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|", tree.text(ARCHITECTURE), re.MULTILINE)
    assert sorted(FOLDERS - set(rows)) == []


@pytest.mark.parametrize("home", ["storage", "transport/kafka"])
def test_the_page_names_every_folder_of_an_adapter(home: str) -> None:
    below = PRODUCT / home
    folders = {
        f"{home}/{path.relative_to(below).parts[0]}"
        for path in tree.files(".py")
        if path.is_relative_to(below) and len(path.relative_to(below).parts) > 1
    }
    assert folders <= quoted(ARCHITECTURE)


def test_ten_changes_have_a_place_and_a_test() -> None:
    table = tree.text(CONTRIBUTING).split("\n## Where do I change ...\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if re.match(r"\| (a|the|an) ", line)]
    assert len(rows) == 10
    for change, place, _, seen_by in rows:
        assert any(exists(word, CONTRIBUTING) for word in re.findall(r"`([\w/.]+)`", place)), change
        (test,) = re.findall(r"`(tests/[\w/]+\.py)`", seen_by)
        assert Path(test) in FILES, change
