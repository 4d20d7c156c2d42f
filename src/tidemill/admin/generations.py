"""In which form the outbox is written from now on: packs, or rows for the version before, which cannot read packs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tidemill import __version__
from tidemill.admin.ports import ProcessReader
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import UsageError


class OutboxForm(NamedTuple):
    """How the open generation is written. `unsent_packs`: those of all generations that were not published yet."""

    generation: int
    packs: bool
    unsent_packs: int


class FormStore(Protocol):
    """The form of the open generation. Every call may raise `Unavailable`."""

    async def form(self) -> OutboxForm:
        """Return the form of the generation that is open."""
        ...

    async def use(self, *, packs: bool) -> None:
        """Change it for the batches from now on; what is stored stays as it is."""
        ...


@dataclass(frozen=True)
class OutboxForms:
    """Shows and changes the form of the outbox. `version`: of this program."""

    store: FormStore
    processes: ProcessReader
    version: str = __version__

    async def form(self) -> OutboxForm:
        """Return the present form."""
        return await self.store.form()

    async def use(self, *, packs: bool) -> OutboxForm:
        """Change the form; return it.

        Raises:
            UsageError: a process of another version serves, which may not be able to read packs.
        """
        serving = await self.processes.processes()
        others = [process for process in serving if process.version not in (None, self.version)]
        if packs and others:
            named = ", ".join(f"{process.process} ({process.version})" for process in others)
            raise UsageError(
                f"processes of another version serve, which may not be able to read packs: {named}",
                code=ErrorCode.OTHER_VERSION,
                version=self.version,
            )
        await self.store.use(packs=packs)
        return await self.store.form()
