"""Programs for Node that use kafkajs, as `make interop` installs it."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.waiting import HANGING_S

_PROGRAMS: Final = Path("tests/acceptance/interop/node")
_MODULES: Final = Path(".interop/node_modules")


def run_node(program: str, *arguments: str, stdin: str = "") -> str:
    """Return what one of the programs prints; skip the test where Node or kafkajs is missing."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node: install it, then run `make interop`")
    if not (_MODULES / "kafkajs").is_dir():
        pytest.skip("needs kafkajs: `make interop` installs it")
    done = subprocess.run(
        [node, str(_PROGRAMS / program), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=HANGING_S,
        check=False,
        env={**os.environ, "NODE_PATH": str(_MODULES.resolve()), "KAFKAJS_NO_PARTITIONER_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
