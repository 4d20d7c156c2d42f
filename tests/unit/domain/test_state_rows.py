"""Rows made without `__init__` are the rows that it would have made."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, replace
from functools import cached_property
from typing import Any

import pytest

from tidemill.domain.state_rows import changed_row, make_row, row_maker


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A row as `entity` makes them."""

    id: str
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    """A row without `__dict__`."""

    id: str
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Careful:
    """A row that checks itself."""

    id: str
    size: int = 0

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("below zero")


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A row with a field that is not given, and one that is computed when it is asked for."""

    id: str
    size: int = 0
    twice: int = field(init=False, default=0)

    @cached_property
    def shown(self) -> str:
        return f"{self.id}: {self.size}"


class Undecorated(Plain):
    """A subclass that is no dataclass of its own."""


@dataclass(frozen=True, kw_only=True)
class Remembering:
    """A plain row that keeps what it computed."""

    id: str
    size: int = 0

    @cached_property
    def shown(self) -> str:
        return f"{self.id}: {self.size}"


MODELS: tuple[Any, ...] = (Plain, Slotted, Careful, Derived, Undecorated, Remembering)


@pytest.mark.parametrize("model", MODELS)
def test_a_row_equals_that_of_its_class(model: Any) -> None:
    for values in ({"id": "a", "size": 2}, {"id": "a"}):
        assert make_row(model, values) == model(**values)
        assert type(make_row(model, values)) is model


@pytest.mark.parametrize("model", MODELS)
def test_a_changed_row_equals_that_of_replace_and_leaves_the_other(model: Any) -> None:
    row = model(id="a", size=2)
    assert changed_row(row, {"size": 3}) == replace(row, size=3)
    assert row == model(id="a", size=2)
    assert hash(changed_row(row, {})) == hash(row)


@pytest.mark.parametrize("model", MODELS)
def test_names_that_there_are_not_are_refused(model: Any) -> None:
    with pytest.raises(TypeError):
        make_row(model, {"id": "a", "size": 1, "colour": "red"})
    with pytest.raises(TypeError):
        make_row(model, {"size": 1})
    with pytest.raises(TypeError):
        changed_row(model(id="a"), {"colour": "red"})


def test_a_row_that_checks_itself_goes_on_doing_so() -> None:
    with pytest.raises(ValueError, match="below zero"):
        make_row(Careful, {"id": "a", "size": -1})
    with pytest.raises(ValueError, match="below zero"):
        changed_row(Careful(id="a"), {"size": -1})


def test_a_row_stays_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        changed_row(Plain(id="a"), {"size": 1}).size = 2


def test_what_a_row_computed_is_not_taken_over() -> None:
    row = Remembering(id="a", size=1)
    assert row.shown == "a: 1"
    assert changed_row(row, {"size": 2}).shown == "a: 2"


@pytest.mark.parametrize("model", [Plain, Careful])
def test_rows_are_made_of_values_in_the_order_of_their_names(model: Any) -> None:
    made = row_maker(model, ("size", "id"))
    assert made((3, "a", "of a column that is not declared")) == model(id="a", size=3)
    assert type(made((3, "a"))) is model


def test_a_row_without_all_of_its_values_is_refused() -> None:
    with pytest.raises(TypeError):
        row_maker(Plain, ("size",))((3,))
