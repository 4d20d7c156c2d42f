"""A plug-in in a folder, as `pip install --target` would leave it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.servers.installation import Installation

ROOT = Path(__file__).resolve().parents[3]


def write_plugin(folder: Path, package: str, source: str, files: dict[str, str]) -> None:
    """Write a package with `source` as its module and further `files`, and the entry point that names its context."""
    about = folder / f"{package}-1.0.dist-info"
    texts = {
        folder / package / "__init__.py": source,
        about / "METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
        about / "entry_points.txt": f"[tidemill.contexts]\n{package} = {package}:context\n",
        **{folder / package / name: text for name, text in files.items()},
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def install_module(folder: Path, name: str, source: str, contexts: dict[str, str]) -> None:
    """Write a module that declares several contexts; `contexts`: entry point -> variable of the module."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    entries = "".join(f"{entry} = {name}:{variable}\n" for entry, variable in contexts.items())
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(f"[tidemill.contexts]\n{entries}", encoding="utf-8")


def with_plugins(installation: Installation, folder: Path) -> Installation:
    """The installation whose processes find the plug-ins in `folder`, which may import the tests' own support."""
    paths = os.pathsep.join(map(str, (folder, ROOT)))
    return Installation({**installation.environment, "PYTHONPATH": paths}, installation.folder)
