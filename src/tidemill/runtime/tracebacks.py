"""Where the code of a context raised: its author needs the line, and nobody else's frames."""

from __future__ import annotations

import sys
from traceback import StackSummary, format_list, walk_tb
from typing import Final

_OURS: Final = "tidemill"
_CONTEXTS: Final = "tidemill.contexts."
_LIBRARIES: Final = frozenset({"pydantic", "pydantic_core"})


def place_of(fault: BaseException) -> str | None:
    """Return the innermost line of a context's code in a traceback, such as `sensors.rules:17 in install`, or None."""
    places = [
        f"{name}:{line} in {frame.f_code.co_name}"
        for frame, line in walk_tb(fault.__traceback__)
        if _is_of_a_context(name := frame.f_globals.get("__name__", ""))
    ]
    return places[-1] if places else None


def frames_of(fault: BaseException) -> str:
    """Return the traceback without the text of the fault, which may quote a value."""
    return "".join(format_list(StackSummary.extract(walk_tb(fault.__traceback__)))).rstrip()


def _is_of_a_context(module: str) -> bool:
    top = module.partition(".")[0]
    if top == _OURS:
        return module.startswith(_CONTEXTS)
    return top not in _LIBRARIES and top not in sys.stdlib_module_names
