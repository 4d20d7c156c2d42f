"""The parts of the devkit, where it is installed. The product does not import it: entry points name its parts."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Final

GROUP: Final = "tidemill.devkit"


def part(name: str) -> Any | None:
    """Return the part of that name, None where no devkit is installed."""
    return next((found.load() for found in entry_points(group=GROUP, name=name)), None)
