import stat
from pathlib import Path

import pytest

from tidemill_devkit.stack import state
from tidemill_devkit.stack.errors import DevstackError
from tidemill_devkit.stack.state import StackState

STATE = StackState("dev-1", "checkout", "native", {"kafka": 9092}, "secret", "first")


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state.save(STATE, tmp_path / "new")
    assert state.load(tmp_path / "new") == STATE


def test_only_its_owner_may_read_the_password(tmp_path: Path) -> None:
    state.save(STATE, tmp_path)
    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "{", '{"name": "x"}', "[]"])
def test_a_damaged_state_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)
    assert state.load(tmp_path) is None


def test_a_new_generation_keeps_everything_else() -> None:
    renewed = STATE.next_generation()
    assert renewed.generation != STATE.generation
    assert renewed.ports == STATE.ports


def test_two_checkouts_have_two_stacks(tmp_path: Path) -> None:
    first, second = state.default_name(tmp_path / "a"), state.default_name(tmp_path / "b")
    assert first != second
    assert first == state.default_name(tmp_path / "x" / ".." / "a")


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "Ä", "A", "a" * 64])
def test_a_name_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(DevstackError, match="cannot name a stack"):
        state.stack_folder(name, tmp_path)


def test_ports_of_other_stacks_are_known_while_they_are_down(tmp_path: Path) -> None:
    state.save(STATE, state.stack_folder("dev-1", tmp_path))
    assert state.ports_of_others("dev-2", tmp_path) == {9092}
    assert state.ports_of_others("dev-1", tmp_path) == set()
