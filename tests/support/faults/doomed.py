"""A deployment whose archive processes, and whose operator's calls, die by kill -9 where a trap is set."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.archive.site import TABLE
from tests.support.clients.journeys import Deployment, Worker
from tests.support.faults.deaths import FREEZE, LABEL_FILE
from tests.support.faults.siege import account
from tests.support.servers.installation import Said
from tests.support.servers.nursery import NURSERY
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.retention.transition_table import Action

ROWS: Final = 40
CONVERGES_S: Final = HANGING_S
STEPS: Final = ("stored", "committed")
"""Before the commit of a transition, and behind it."""

ORDERS_GIVEN_TWICE: Final = frozenset({Action.HOLD})
"""Those that do no harm the second time; the others are refused, since it is done."""

_FILL: Final = """
insert into public.market_data (time, symbol, price, source, command_id)
select make_timestamptz({year}, 1, 5, 0, 0, 0, 'UTC') + i * interval '1 day', 'S' || i % 3, i / 7.0, 'kills',
       gen_random_uuid()
from generate_series(1, {rows}) i
"""
_LATE: Final = """
insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
select range_start + interval '40 days', 'L', 1.5, 'late', gen_random_uuid(), range_start from tm.archive
where {of_year}
"""
_OF_YEAR: Final = "extract(year from range_start + interval '30 days') = {year}"
_UNCOMPARED: Final = (
    "select count(*) as lanes from tm.lane where owner is not null and compared_epoch is distinct from epoch"
)
_STATES: Final = "select state, reason from tm.archive where {of_year}"


@dataclass
class Doomed:
    """The deployment. `dropped`: how many times a slice is to leave behind a copy that was verified.

    `steps`: where the stories' processes die.
    """

    deployment: Deployment
    lake: Path
    trap: Path
    workers: dict[str, Worker] = field(default_factory=dict)
    year: int = 1980
    every_s: str = "0.3"
    rows: int = 0
    slices: int = 0
    dropped: int = 0
    killed: list[str] = field(default_factory=list)
    steps: tuple[str, ...] = STEPS

    @property
    def _environment(self) -> dict[str, str]:
        return {
            LABEL_FILE: str(self.trap),
            "TIDEMILL_RETENTION_EVERY_S": self.every_s,
            "TIDEMILL_RETENTION_AS_OF": "2026-01-01T00:00:00Z",  # which takes no chunk for one that is written to
        }

    # --- processes ---

    def start(self, process: str) -> None:
        """Start a process, without waiting for anything."""
        self.workers[process] = self.deployment.launch(
            process, module="tests.support.faults.deaths", **self._environment
        )

    def stop(self, process: str) -> None:
        """End a process as its supervisor does."""
        self.workers[process].stop()

    def set_trap(self, label: str) -> None:
        """Have whoever comes to a point next die there."""
        self.trap.write_text(label)

    def await_death(self, process: str) -> None:
        """Wait until a process has killed itself where the trap was set."""
        worker = self.workers[process]
        eventually_blocking(lambda: worker.process.poll() is not None, CONVERGES_S, f"{process} to die")
        assert worker.process.returncode == -signal.SIGKILL, worker.log.read_text()[-3000:]
        assert not self.trap.exists()

    def freeze_at(self, label: str, process: str) -> Worker:
        """Stop a process at the point that the newest chunk leads it to, and start another; return the frozen one."""
        frozen = self.workers[process]
        self.set_trap(f"{FREEZE}{label}")
        self.fill()
        eventually_blocking(lambda: not self.trap.exists(), CONVERGES_S, f"{process} to freeze")
        self.start(process)
        return frozen

    def service_dies_at(self, action: Action, begin: Callable[[], None]) -> None:
        """Kill the service before the commit of a step, which `begin` leads to, and behind it; start it after each."""
        for when in self.steps:
            self.set_trap(f"{action}:{when}")
            begin()
            self.await_death("retention")
            self.killed.append(f"{action}:{when}")
            begin = self.start_service
        begin()

    def start_service(self) -> None:
        """Start `serve retention`, without waiting for anything."""
        self.start("retention")

    def operator_dies_at(self, action: Action, *order: str) -> None:
        """Kill an operator's call before its commit and behind it; then the order is given again.

        The first time nothing is done, the second time all of it: who gives the order again is told so.
        """
        self.await_compared()
        for when in self.steps:
            before = self.states()
            self.set_trap(f"{action}:{when}")
            ended, said = self._order_in_vain(*order)
            assert ended == -signal.SIGKILL, said
            assert not self.trap.exists()
            assert (self.states() == before) == (when == "stored")
            self.killed.append(f"{action}:{when}")
        done = self.steps[-1] == "committed" and action not in ORDERS_GIVEN_TWICE
        said_again = self.order(*order, expect=None)
        assert (said_again.code != 0) == done, said_again

    def order(self, verb: str, *arguments: str, expect: int | None = 0) -> Said:
        """Call `tidemill retention VERB`."""
        return self.deployment("retention", verb, TABLE, *arguments, expect=expect)

    def _order_in_vain(self, verb: str, *arguments: str) -> tuple[int, str]:
        """Call it in a process that dies; return how it ended, and what it said."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
        whole = clean | dict(self.deployment.installation.environment) | self._environment
        said = self.deployment.installation.folder / "in vain.log"
        said.write_text("")
        child = NURSERY.begin(
            "tests.support.faults.deaths", ["retention", verb, TABLE, *arguments], whole, said
        )
        return child.wait(CONVERGES_S), said.read_text()

    # --- rows ---

    def fill(self) -> None:
        """Make a chunk that is to leave, later than all others."""
        self.year += 1
        self.slices += 1
        self.dropped += 1
        self.write()

    def write(self, rows: int = ROWS) -> None:
        """Write rows of the newest chunk."""
        self.deployment.installation.execute(_FILL.format(year=self.year, rows=rows))
        self.rows += rows

    def write_late(self) -> None:
        """Do what a batch does with a row for the newest chunk while it is sealed."""
        self.deployment.installation.execute(_LATE.format(of_year=self.of_year))
        self.rows += 1

    @property
    def of_year(self) -> str:
        """What the registry's rows of the newest chunk have in common."""
        return _OF_YEAR.format(year=self.year)

    @property
    def span(self) -> tuple[str, ...]:
        """The newest chunk's rows, as an order names them."""
        return "--from", f"{self.year}-01-06", "--to", f"{self.year}-03-01"

    @property
    def time(self) -> str:
        """A time in the newest chunk."""
        return f"{self.year}-01-10"

    def let_pass(self, column: str) -> None:
        """Make two days pass by a time that the registry keeps of the newest chunk."""
        self.deployment.installation.execute(
            f"update tm.archive set {column} = {column} - interval '2 days' where {self.of_year}"
        )

    def let_rest(self) -> None:
        """Make the time pass that a chunk rests which was given up."""
        self.let_pass("since")
        eventually_blocking(lambda: "aborted" not in self.states(), CONVERGES_S, "a chunk to be taken up")

    # --- what became of them ---

    def states(self) -> set[str]:
        """Return the states of all slices of the newest chunk's range."""
        found = self.deployment.installation.fetch(_STATES.format(of_year=self.of_year))
        return {row["state"] for row in found}

    def await_compared(self) -> None:
        """Wait until a service that was just started has compared its lanes with their topics: else an order waits."""
        fetch = self.deployment.installation.fetch
        eventually_blocking(lambda: fetch(_UNCOMPARED)[0]["lanes"] == 0, CONVERGES_S, "lanes to be compared")

    def await_state(self, state: str) -> None:
        """Wait until the newest chunk is in a state."""
        what = f"the chunk of {self.year} to be {state}"
        eventually_blocking(lambda: self.states() == {state}, CONVERGES_S, what)

    def await_failure(self) -> None:
        """Wait until an archiver has said why it did not copy the newest chunk."""
        query = _STATES.format(of_year=self.of_year)

        def failed() -> bool:
            found = self.deployment.installation.fetch(query)
            return [row["state"] for row in found if row["reason"]] == ["requested"]

        eventually_blocking(failed, CONVERGES_S, "an answer of the archiver")

    def await_dropped(self) -> None:
        """Wait until the chunk has left, and every slice of its range with it."""

        def gone() -> bool:
            states = self.states()
            assert not states & {"aborted", "quarantined"}
            return states == {"dropped"}

        eventually_blocking(gone, CONVERGES_S, f"the chunk of {self.year} to leave")

    def counted(self) -> tuple[int, int]:
        """Return how many rows are in the table, and how many are late ones."""
        found = asyncio.run(account(self.deployment.installation.database, self.lake))
        return sum(found.hot.values()), sum(found.late.values())

    def files(self) -> list[Path]:
        """Return the files of copies that are in the lake, oldest first."""
        return sorted(self.lake.rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
