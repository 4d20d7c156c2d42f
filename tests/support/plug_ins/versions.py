"""Another version beside this one: its processes find its packages before those that are installed here.

Works for Tidemill itself and for a plug-in's package. What an import, an entry point and a package's own files
(schemas, migrations) resolve to is decided by the order of the folders, so a version is a folder that comes first.
Its dependencies are those of this environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.support.servers.installation import Installation, Said, Serving
from tests.support.waiting import HANGING_S

ROOT = Path(__file__).resolve().parents[3]
WHEELS = ROOT / "tests" / "versions"


def unpacked(wheel: Path, folder: Path) -> Path:
    """Unpack a wheel of pure Python into `folder`, as `pip install --no-deps --target` does, and return the folder."""
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder)
    return folder


class OtherVersion(Installation):
    """An installation whose processes are of another version: each is an interpreter of its own.

    This process and the nursery have imported the version at hand, so that neither can be another one.
    """

    def __call__(self, *arguments: str | Path, stdin: str = "", expect: int | None = 0) -> Said:
        ended = subprocess.run(
            [sys.executable, "-m", "tidemill", *map(str, arguments)],
            env=self.whole_environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=HANGING_S,
            check=False,
        )
        assert expect is None or ended.returncode == expect, (
            f"{ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        )
        return Said(ended.returncode, ended.stdout, ended.stderr)

    @contextmanager
    def starting(
        self, process: str = "all", *, module: str = "tidemill", **environment: str
    ) -> Iterator[Serving]:
        log = self.folder / f"{process}.log"
        whole = self.whole_environment() | {"TIDEMILL_LOG_FORMAT": "json"} | environment
        with log.open("w") as written:
            child = subprocess.Popen(
                [sys.executable, "-m", module, "serve", process], env=whole, stdout=written, stderr=written
            )
        try:
            yield Serving(child, log)
        finally:
            child.kill()
            child.wait(HANGING_S)


def with_version(installation: Installation, packages: Path, folder: Path) -> OtherVersion:
    """The same settings, database and topics, used by the version in `packages`; its logs go to `folder`."""
    before = installation.environment.get("PYTHONPATH")
    paths = os.pathsep.join(filter(None, (str(packages), before)))
    return OtherVersion({**installation.environment, "PYTHONPATH": paths}, folder)


def beside(installation: Installation, folder: Path) -> Installation:
    """The same installation with a folder of its own for its logs, to serve a second time at once."""
    folder.mkdir(parents=True, exist_ok=True)
    return replace(installation, folder=folder)
