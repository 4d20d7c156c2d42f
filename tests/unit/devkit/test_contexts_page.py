"""The page for authors of contexts: its package is written as it stands there, and its tests run."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.architecture import tree
from tests.support.clients.walkthrough import File, steps
from tests.support.waiting import HANGING_S

PAGE = Path("docs/contexts.md")


def test_the_package_of_the_page_passes_its_own_tests(tmp_path: Path) -> None:
    files = [step for step in steps(tree.text(PAGE)) if isinstance(step, File)]
    for file in files:
        path = tmp_path / file.path
        path.parent.mkdir(exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
    (test,) = (file for file in files if file.path.startswith("test_"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            test.path,
        ],
        cwd=tmp_path,
        env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=HANGING_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tests = len(re.findall(r"^def test_", test.text, re.MULTILINE))
    assert f"{tests} passed" in done.stdout
