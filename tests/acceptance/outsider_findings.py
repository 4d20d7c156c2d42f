"""What an outsider finds: hops that do not balance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, NamedTuple


class Finding(NamedTuple):
    """A hop that does not balance: `command topic -> log`; or a place that contradicts itself: `event topic`."""

    hop: str
    what: str


def compare(hop: str, expected: Iterable[Hashable], found: Iterable[Hashable]) -> Iterator[Finding]:
    """Both sides must hold the same, as often as each other."""
    wanted, there = Counter(expected), Counter(found)
    for what, missing in (("missing", wanted - there), ("too many", there - wanted)):
        for item, count in missing.items():
            yield Finding(hop, f"{what}: {count} x {item}")


def json_text(data: Any) -> str:
    """Return JSON as it compares: the same for equal values."""
    return json.dumps(data, sort_keys=True)
