"""A plug-in in a folder, as `pip install --target` would leave it, and the program run with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.installation import Installation, Said

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60


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


def with_plugins(installation: Installation, folder: Path) -> Installation:
    """The installation with the plug-ins in `folder`; they may import the tests' own support."""
    paths = os.pathsep.join(map(str, (folder, ROOT)))
    return Installation({**installation.environment, "PYTHONPATH": paths}, installation.folder)


def call(installation: Installation, *arguments: str) -> Said:
    """Run the program in a process of its own, which finds plug-ins at its start."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    done = subprocess.run(
        [sys.executable, "-m", "tidemill", *arguments],
        env=clean | dict(installation.environment),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Said(done.returncode, done.stdout, done.stderr)
