"""A stack that lives for minutes: its broker does not optimise what it runs."""

from pathlib import Path

import pytest

from tidemill_devkit.stack import java, native
from tidemill_devkit.stack.plan import PORTS
from tidemill_devkit.stack.state import StackState


@pytest.mark.parametrize("brief", [False, True])
def test_only_a_brief_stacks_broker_does_without_the_optimising_compiler(tmp_path: Path, brief: bool) -> None:
    ports = dict.fromkeys(PORTS, 1)
    state = StackState("some", "checkout", "native", ports, "secret", "first", brief=brief)
    command = native.servers(state, tmp_path)["kafka"].plan.command()
    assert (java.NO_OPTIMISING in command) is brief
