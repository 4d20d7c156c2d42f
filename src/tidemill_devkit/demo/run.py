"""The demo from the first step to the report."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from tidemill.admin.audit.balance import Audit
from tidemill.app.admin import Admin
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.service import Exit
from tidemill_devkit.demo import proof
from tidemill_devkit.demo.archive import archive
from tidemill_devkit.demo.archive_proof import proof_of_archive
from tidemill_devkit.demo.breadth_proof import Breadth, proof_of_breadth, read_breadth
from tidemill_devkit.demo.feed import SentRecord, publish
from tidemill_devkit.demo.over_http import QuoteReads, QuoteWrite, read_quote, write_quote
from tidemill_devkit.demo.over_http_proof import proof_over_http, sent_over_http
from tidemill_devkit.demo.place import DemoSite, Servers, take_place
from tidemill_devkit.demo.plan import DemoPlan, make_plan
from tidemill_devkit.demo.processes import ARCHIVE_PROCESSES, PROCESSES, ProcessExit, Serving, serving
from tidemill_devkit.demo.proof import DemoCheck
from tidemill_devkit.demo.quotes import SYMBOLS
from tidemill_devkit.demo.report import DemoFindings, DemoReport, make_report
from tidemill_devkit.demo.watch import DemoWatch, Hop

_AUDIT_WAIT_S = 10.0


class DemoListener(Protocol):
    """The observer of a run."""

    def began(self, run: str) -> None:
        """A run of that name has its database now."""
        ...

    def step(self, name: str) -> None:
        """A step begins."""
        ...

    def done(self, name: str, result: str) -> None:
        """The step is done, with a `result`."""
        ...

    def hops(self, hops: Sequence[Hop]) -> None:
        """The progress of every step; called several times a second."""
        ...


async def run_demo(
    servers: Servers, listener: DemoListener, symbols: tuple[str, ...] = SYMBOLS
) -> DemoReport:
    """Run the demo on servers that answer. `symbols`: fewer stocks make a smaller demo.

    Raises:
        TidemillError: it cannot be completed. Results, good or bad, are in the report.
    """
    task = asyncio.current_task()
    assert task is not None
    # else the processes would keep running
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await _Run(servers, listener).run(symbols)


class _Run:
    def __init__(self, servers: Servers, listener: DemoListener) -> None:
        self._servers = servers
        self._listener = listener
        self._clock = SystemClock()
        self._seconds: dict[str, float] = {"servers": servers.seconds}

    async def run(self, symbols: tuple[str, ...]) -> DemoReport:
        now = self._clock.now()
        plan = make_plan(now, symbols)
        with self._timed("prepare"):
            self._listener.step("database")
            place = await take_place(self._servers, now=now, lanes=plan.lanes)
            self._listener.began(place.run)
            place.write_env_file()
            await self._prepare(place)
        async with serving(place) as processes:
            with self._timed("process"):
                sent, writes = await self._through(place, plan, processes)
                reads = await self._read_over_http(plan, processes, writes)
            with self._timed("archive"):
                self._listener.step("archive")
                archived = await archive(place, processes, self._listener.hops, self._listener.done)
            self._listener.step("processes")
            with self._timed("drain"):
                process_exits = await processes.stop()
            self._listener.done("processes", _ended(process_exits))
        self._listener.step("proof")
        with self._timed("proof"):
            answers = await proof.read_outcomes(place.deployment)
            views = await proof.read_views(place.deployment, plan)
            breadth = await read_breadth(place.deployment)
            sent = [*sent, *sent_over_http(plan, answers)]
            checks = [
                *await self._checks(place, plan, sent, answers, (views, breadth)),
                *proof_over_http(plan, writes, reads),
                *proof_of_archive(plan, archived),
                _check_process_exits(process_exits),
            ]
        good = sum(check.ok for check in checks)
        self._listener.done("proof", f"{good} of {len(checks)} checks hold")
        tallies = proof.tallies(plan, sent, answers)
        return make_report(place, plan, DemoFindings(tallies, views, archived), checks, self._seconds)

    async def _prepare(self, place: DemoSite) -> None:
        async with Admin(place.deployment) as admin:
            await self._prepare_by(admin, place)

    async def _prepare_by(self, admin: Admin, place: DemoSite) -> None:
        listener = self._listener
        steps = await admin.migrations.apply(["heads"], lambda _: None)
        listener.done("database", f"{place.database}: {len(steps)} migrations")
        listener.step("topics")
        prepared = await admin.topic_setup.create()
        topics = sum(len(each.new_topics) for each in prepared)
        lanes = sum(each.new_lanes for each in prepared)
        listener.done("topics", f"{place.settings.topics.prefix}.*: {topics} topics, {lanes} lanes")
        listener.step("schemas")
        if place.settings.registry.url is None:
            listener.done("schemas", "no registry: records carry the fingerprint of their schema")
        else:
            registered = await admin.schemas.register()
            listener.done("schemas", f"{len(registered)} registered")

    async def _through(
        self, place: DemoSite, plan: DemoPlan, processes: Serving
    ) -> tuple[list[SentRecord], Sequence[QuoteWrite]]:
        """Publish while the processes run, and return when everything has passed through."""
        watch = DemoWatch(place.deployment, plan, self._listener.hops)
        feeding = asyncio.create_task(self._feed(place, plan, processes, watch))
        watching = asyncio.create_task(watch.until_done(processes))
        tasks = (feeding, watching)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
        for task in tasks:
            if task.done() and not task.cancelled():
                task.result()
        return await feeding

    async def _feed(
        self, place: DemoSite, plan: DemoPlan, processes: Serving, watch: DemoWatch
    ) -> tuple[list[SentRecord], Sequence[QuoteWrite]]:
        """Publish what others refer to, wait until it is there, publish the rest, and write over HTTP what is left."""
        sent = await publish(place.deployment, plan.first, watch.published)
        await watch.until_applied(plan.first)
        sent += await publish(
            place.deployment, plan.fed, lambda records: watch.published(len(plan.first) + records)
        )
        address = await processes.http_address()
        writes = [await write_quote(address, record.command) for record in plan.over_http]
        watch.published(len(sent) + len(writes))
        return sent, writes

    async def _read_over_http(
        self, plan: DemoPlan, processes: Serving, writes: Sequence[QuoteWrite]
    ) -> QuoteReads:
        self._listener.step("http")
        address = await processes.http_address()
        reads = await read_quote(address, plan.http_quote, writes[0].seen)
        self._listener.done("http", f"{len(writes)} writes with one key; {len(reads.page)} rows of a filter")
        return reads

    async def _checks(
        self,
        place: DemoSite,
        plan: DemoPlan,
        sent: Sequence[SentRecord],
        answers: proof.Answers,
        read: tuple[proof.Views, Breadth],
    ) -> list[DemoCheck]:
        async with Admin(place.deployment) as admin:
            at_rest = await admin.status.read()
            balance = await admin.audit.run(wait_s=_AUDIT_WAIT_S)
        views, breadth = read
        return [
            proof.check_outcomes(sent, answers),
            proof.check_events(plan, at_rest),
            proof.check_lag(at_rest),
            proof.check_views(plan, views),
            proof.check_known(plan, views),
            proof.check_extremes(plan, views),
            *proof_of_breadth(breadth, balance),
            _check_audit(balance),
        ]

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began_s = monotonic()
        yield
        self._seconds[step] = monotonic() - began_s


def _check_audit(balance: Audit) -> DemoCheck:
    records = sum(lane.records for lane in balance.lanes)
    events = sum(lane.events for lane in balance.lanes)
    wrong = "; ".join(str(finding) for finding in balance.findings[:5])
    rows = "; ".join(
        f"{table.applied or 0:,} rows = {table.hot:,} hot + {table.archived:,} archived + {table.diverted:,} diverted"
        for table in balance.tables
        if table.archived
    )
    return DemoCheck(
        "the audit balances",
        ok=not balance.findings and bool(rows),
        detail=wrong or f"{records:,} records, {events:,} events; {rows}",
    )


def _check_process_exits(process_exits: Sequence[ProcessExit]) -> DemoCheck:
    ok = all(process_exit.exit_code == Exit.DRAINED for process_exit in process_exits) and len(
        process_exits
    ) == len(PROCESSES) + len(ARCHIVE_PROCESSES)
    return DemoCheck("all five processes drained after SIGTERM", ok=ok, detail=_ended(process_exits))


def _ended(process_exits: Sequence[ProcessExit]) -> str:
    return ", ".join(
        f"serve {process_exit.name} ended with {process_exit.exit_code} after {process_exit.seconds:.1f} s"
        for process_exit in process_exits
    )
