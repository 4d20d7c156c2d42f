"""Import paths of a version before: they work for one version more, and warn.

A module at an old path sets `__getattr__ = moved(...)`. Every import from it is warned about, at the line that imports.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any


def moved(old: str, names: Mapping[str, Any], *, to: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of the module `old`: it gives the objects in `names`, which are public in `to`."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        warnings.warn(
            f"{old} is removed in the next version: use `from {to} import {name}`",
            DeprecationWarning,
            stacklevel=2,
        )
        return names[name]

    return find
