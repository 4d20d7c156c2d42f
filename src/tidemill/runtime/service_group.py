"""Services that are one: they start, fail and stop together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from tidemill.runtime.service import Health, Service

Act = Callable[[], Awaitable[Any]]


class ServiceGroup:
    """A `Service` of several, by name. The first one is what feeds the next: it starts last, and stops first.

    `opening` comes before the first start; `closing`, all at once, behind the last stop.
    """

    def __init__(self, parts: Mapping[str, Service], *, opening: Act, closing: Sequence[Act]) -> None:
        """Nothing happens before `start`."""
        self._parts = parts
        self._opening = opening
        self._closing = closing

    async def start(self) -> None:
        """Make ready what is fed before what feeds it."""
        await self._opening()
        for part in reversed(list(self._parts.values())):
            await part.start()

    async def run(self) -> None:
        """Work until `stop`; the first that fails ends the others."""
        async with asyncio.TaskGroup() as group:
            for part in self._parts.values():
                group.create_task(part.run())

    async def stop(self) -> None:
        """First nothing more comes in, then what came is worked off, then the rest."""
        for part in self._parts.values():
            await part.stop()
        await asyncio.gather(*(close() for close in self._closing))

    def health(self) -> Health:
        """Return that of each; it is well if all are."""
        found = {name: part.health() for name, part in self._parts.items()}
        return Health(
            ok=all(each.ok for each in found.values()),
            detail={name: dict(each.detail) for name, each in found.items()},
        )
