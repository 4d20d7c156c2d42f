"""How a class of work is to be connected, and the text that settings have for it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """A class of work (`name`: `read`, `count` ...), and the connections it has.

    `size`: how many are kept open at most, `min_size` of them from the start. `overflow`: how many more may be open for
    as long as they are lent. `acquire_s`: how long a request waits for a free one. `recycle_s`: the age at which one is
    replaced. `ping_after_s`: one without use for longer is asked before it is lent. `cleans`: what a session was left
    with is removed when it comes back.
    """

    name: str
    size: int
    min_size: int = 1
    overflow: int = 0
    acquire_s: float = 1.0
    recycle_s: float = 1_800.0
    ping_after_s: float = 30.0
    cleans: bool = True

    def __post_init__(self) -> None:
        """Refuse what no pool can be: raises `ValueError`."""
        if not 1 <= self.size <= 1_000 or not 0 <= self.overflow <= 1_000:
            raise ValueError("expected size from 1 to 1000 and overflow from 0 to 1000")
        if not 0 <= self.min_size <= self.size:
            raise ValueError(f"expected min_size from 0 to size, which is {self.size}")
        if not 0 < self.acquire_s <= 60 or not 1 <= self.recycle_s <= 604_800 or self.ping_after_s < 0:
            raise ValueError(
                "expected acquire_s up to 60, recycle_s from 1 to 604800, ping_after_s not negative"
            )

    def changed(self, text: str) -> PoolConfig:
        """Return it with what `NAME=NUMBER[,NAME=NUMBER...]` says. Raises `ValueError`, which lists the names."""
        types = {field.name: type(field.default) for field in fields(self) if field.name in _NAMES}
        changes: dict[str, int | float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, number = (piece.strip() for piece in part.partition("="))
            if name not in _NAMES or not equals:
                raise ValueError(f"expected NAME=NUMBER with a name of {', '.join(_NAMES)}; got {part!r}")
            try:
                changes[name] = float(number) if types[name] is float else int(number)
            except ValueError:
                raise ValueError(f"expected a number for {name}, got {number!r}") from None
        return replace(self, **changes)  # type: ignore[arg-type]  # the names are those of numbers


_NAMES = ("size", "min_size", "overflow", "acquire_s", "recycle_s", "ping_after_s")

POOLS = (
    # The statements of these two are the generator's alone: they set nothing, or the same for all of a session.
    PoolConfig(name="read", size=8, cleans=False),
    PoolConfig(name="page", size=8, cleans=False),
    PoolConfig(name="count", size=2),
    PoolConfig(name="stream", size=2),
    PoolConfig(name="write", size=4),
)
"""The classes of work: documents and what left for the lake; pages; counts and aggregates; streams; tokens, journal and
look-ups of outcomes."""
