"""The pinned packages: all of them, with hashes, as installed, and each direct one with its reason."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture import tree
from tests.architecture.tree import ROOT
from tidemill.cli.program import EXTRAS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"^([\w.-]+)(?:\[([\w.,-]+)\])?==(\S+) \\$", re.MULTILINE)
PINS = PIN.findall((ROOT / "constraints.txt").read_text())
PINNED = {name: version for name, _, version in PINS}
PARTS = {"pydantic-core": "pydantic"}  # released in step: one needs exactly that version of the other


def direct() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    return [Requirement(line) for line in (*lines, *PROJECT["build-system"]["requires"])]


def applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})


def needed() -> dict[str, set[str]]:
    """Everything that the direct requirements need in this environment, by canonical name, and its extras."""
    todo = [(canonicalize_name(r.name), frozenset(r.extras)) for r in direct()]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = item = todo.pop()
        if item not in seen:
            seen.add(item)
            requirements = map(Requirement, metadata.requires(name) or [])
            todo += [
                (canonicalize_name(r.name), frozenset(r.extras))
                for r in requirements
                if applies(r, set(extras))
            ]
    return {name: set().union(*(extras for same, extras in seen if same == name)) for name, _ in seen}


@pytest.mark.parametrize("requirement", direct(), ids=str)
def test_a_direct_requirement_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    assert requirement.specifier.contains(PINNED[canonicalize_name(requirement.name)])


def test_everything_that_is_needed_is_pinned_and_nothing_else() -> None:
    assert needed().keys() == PINNED.keys()


def test_a_pin_has_the_extras_that_are_needed() -> None:
    """Without them, pip 23.2 looks for `package[extra]` beyond the pins, and a newer release has no hash here."""
    assert {name: set(filter(None, extras.split(","))) for name, extras, _ in PINS} == needed()


def test_the_environment_has_what_is_pinned() -> None:
    installed = {name: metadata.version(name) for name in PINNED}
    assert installed == PINNED, "the environment is older than constraints.txt: make check installs it"


def test_every_pin_has_hashes_and_there_is_nothing_but_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    others = [
        line
        for line in lines
        if not re.fullmatch(r"[\w.-]+(\[[\w.,-]+\])?==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?|#.*", line)
    ]
    assert not others
    pins = [index for index, line in enumerate(lines) if "==" in line]
    assert all(lines[index + 1].startswith("    --hash=sha256:") for index in pins)


def test_every_direct_dependency_has_its_reason_in_the_docs() -> None:
    rows = re.findall(r"^\| `([\w.-]+)", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    assert sorted({canonicalize_name(row) for row in rows}) == sorted(
        {canonicalize_name(r.name) for r in direct()}
    )


def imported(*tops: str) -> Iterator[tuple[str, str]]:
    """Distribution and file of every import of somebody else's package below the folders."""
    homes = metadata.packages_distributions()
    for path in tree.python_files(*tops):
        for node in ast.walk(tree.syntax(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {name.split(".")[0] for name in names} - {
                "tidemill",
                "tidemill_devkit",
                "tests",
                *sys.stdlib_module_names,
            }:
                name = canonicalize_name(homes[top][0])
                yield PARTS.get(name, name), str(path)


THROUGH = {"httptools": "uvicorn.protocols.http.httptools_impl"}
"""Dependencies that another library imports for us, by the module of it that we import."""


def names(lines: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def imports_module(name: str) -> bool:
    return any(
        isinstance(node, ast.ImportFrom) and node.module == name
        for path in tree.python_files("src")
        for node in ast.walk(tree.syntax(path))
    )


def test_what_is_shipped_imports_direct_dependencies_only_and_all_of_them() -> None:
    to_run = names(PROJECT["project"]["dependencies"])
    extras = PROJECT["project"]["optional-dependencies"]
    optional = names(extras["archive"]) | names(extras["demo"]) | names(extras["iceberg"])
    used = dict(imported("src", "migrations"))
    assert {name: path for name, path in used.items() if name not in to_run | optional} == {}
    through = {name for name, module in THROUGH.items() if imports_module(module)}
    assert not to_run - used.keys() - through


def test_the_program_names_the_extra_of_every_package_that_may_be_missing() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    homes = metadata.packages_distributions()
    for extra in ("archive", "demo", "iceberg"):
        packages = {top for top, extra_of in EXTRAS.items() if extra_of == extra}
        assert {canonicalize_name(homes[top][0]) for top in packages} == names(extras[extra])
