"""Several gates of one service: all have to be open, and the one that is shut gives the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.runtime.gates import AllOf


class Door:
    """A gate that a test opens. `own`: the error that it takes the blame for."""

    def __init__(self, name: str, own: type[Exception] = KeyError, *, is_open: bool = True) -> None:
        self.name = name
        self.own = own
        self.is_open = is_open

    async def look(self) -> bool:
        return self.is_open

    def blame(self, error: BaseException) -> bool:
        return isinstance(error, self.own)

    def standing(self) -> Mapping[str, Any]:
        return {"why": self.name}


async def test_it_is_open_while_all_are_and_tells_of_the_first_that_is_not() -> None:
    first, second = Door("first"), Door("second")
    both = AllOf((first, second))
    assert await both.look()
    second.is_open = False
    assert not await both.look()
    assert both.standing() == {"why": "second"}
    first.is_open = False
    assert not await both.look()
    assert both.standing() == {"why": "first"}


async def test_an_error_is_the_gates_that_knows_it() -> None:
    both = AllOf((Door("first"), Door("second", ValueError)))
    assert both.blame(ValueError())
    assert both.standing() == {"why": "second"}
    assert not both.blame(OSError())
