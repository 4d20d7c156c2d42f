"""Principals in memory, changed by the same use-cases as real ones, under a clock that a test moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.fakes.principals import MemoryPrincipals
from tidemill.admin.principals import PrincipalEntry, PrincipalManagement, PrincipalOverview
from tidemill.security.authenticator import Authenticator
from tidemill.security.directory import PrincipalDirectory
from tidemill.security.web_tokens import WebTokenVerifier

COLLECTIONS = {"ticks": ["price", "volume", "source"], "users": ["email", "username"]}


class MovedClock:
    """Wall time and monotonic time that only a test moves."""

    def __init__(self) -> None:
        self.at = datetime(2026, 12, 1, 12, tzinfo=UTC)
        self._began = self.at

    def now(self) -> datetime:
        return self.at

    def monotonic_s(self) -> float:
        return 1_000.0 + (self.at - self._began).total_seconds()

    def pass_(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class World:
    """A deployment without servers: its principals, its journal, and as many processes as a test opens."""

    store: MemoryPrincipals = field(default_factory=MemoryPrincipals)
    clock: MovedClock = field(default_factory=MovedClock)
    entries: list[PrincipalEntry] = field(default_factory=list)

    @property
    def management(self) -> PrincipalManagement:
        return PrincipalManagement(
            store=self.store,
            collections=COLLECTIONS,
            clock=self.clock,
            actor="olga",
            journal=self._keep,
        )

    @property
    def overview(self) -> PrincipalOverview:
        return PrincipalOverview(reader=self.store, clock=self.clock)

    def process(
        self,
        *,
        web_tokens: WebTokenVerifier | None = None,
        development: bool = False,
        deadline_s: float = 30.0,
    ) -> Authenticator:
        """Return the authenticator of one more process."""
        directory = PrincipalDirectory(self.store, self.clock, deadline_s=deadline_s)
        return Authenticator(directory, self.clock, web_tokens=web_tokens, development=development)

    async def _keep(self, entry: PrincipalEntry) -> None:
        self.entries.append(entry)
