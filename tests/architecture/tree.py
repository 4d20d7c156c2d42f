"""The files of the repository, as the tests of this folder look at them."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.waiting import HANGING_S

ROOT = Path(__file__).parents[2]


@cache
def files(suffix: str = "") -> tuple[Path, ...]:
    """All files that are tracked or could be (not ignored), by path from the root; text and binary alike."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=HANGING_S)
    names = {Path(name) for name in listing.stdout.split("\0") if name.endswith(suffix)}
    return tuple(sorted(name for name in names if (ROOT / name).is_file() and not (ROOT / name).is_symlink()))


def python_files(*tops: str) -> list[Path]:
    return [path for path in files(".py") if not tops or path.parts[0] in tops]


@cache
def text(path: Path) -> str:
    """The content; empty for what is not text."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(text(path), str(path))


@dataclass(frozen=True)
class Function:
    path: Path
    name: str
    lines: int  # from `def` to the end; neither decorators nor docstring count
    is_stub: bool


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = _docstring_lines(node)
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring
            yield Function(path, node.name, lines, is_stub=_is_stub(node))


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node, clean=False) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def _is_stub(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return all(isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) for item in node.body)


def dotted_names(path: Path) -> Iterator[tuple[str, int]]:
    """Every name that is used, dotted and with imports resolved, and its line.

    `sleep` after `from time import sleep` is `time.sleep`; `dt.datetime.now` after `import datetime as dt` is
    `datetime.datetime.now`.
    """
    imported = dict(_imported(syntax(path)))
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Attribute | ast.Name) and (parts := _dotted(node)):
            yield ".".join((imported.get(parts[0], parts[0]), *parts[1:])), node.lineno


def bases(path: Path) -> Iterator[tuple[str, str]]:
    """Every class with each of its bases, dotted and with imports resolved."""
    imported = dict(_imported(syntax(path)))
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.ClassDef):
            named = filter(None, map(_dotted, map(_unsubscripted, node.bases)))
            yield from ((node.name, ".".join((imported.get(first, first), *rest))) for first, *rest in named)


def _unsubscripted(base: ast.expr) -> ast.expr:
    return base.value if isinstance(base, ast.Subscript) else base


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)


def _dotted(node: ast.expr) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (parent := _dotted(node.value)):
        return (*parent, node.attr)
    return ()
