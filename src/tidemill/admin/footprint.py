"""What a process holds, reported periodically: its connections' names and its open files.

`tidemill status` reads it; the database itself counts the connections under these names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from tidemill.admin.ports import ProcessRegister
from tidemill.domain.errors import TransientError
from tidemill.runtime import open_files
from tidemill.runtime.periodic import Watch

_EVERY_S: Final = 30.0
_LAST_WORD_S: Final = 1.0


class Footprint(Watch):
    """A `Service` that maintains this process's row; `names`: under which it connects, may grow."""

    def __init__(
        self, database: ProcessRegister, process: str, names: Collection[str], *, every_s: float = _EVERY_S
    ) -> None:
        """Nothing is written before `run`."""
        super().__init__(every_s=every_s)
        self._database = database
        self._process = process
        self._names = names

    async def look(self) -> None:
        """Write the row. Raises `TransientError`."""
        await self._database.note(self._process, self._names, open_files.count(), open_files.limit())

    async def stop(self) -> None:
        """Let `run` end, and delete the row; a row that is left is ignored after some minutes."""
        await super().stop()
        with suppress(TransientError, TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                await self._database.forget(self._process)
