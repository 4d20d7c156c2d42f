"""`python -m benchmarks --against CHECKOUT`: an older version and this one on the same bytes, in turns.

Old, new, old again: the second one of the old version shows how much two measurements of the same code differ in this
very run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from benchmarks.checkout import Version, checked_out
from benchmarks.data import ROOT, market_data, with_odd
from benchmarks.outside import HOPS, STAGES, Cost, turn
from tidemill_devkit import stack as devstack

ORDER = ("old", "new", "old again")
ALLOWED = 1.05
"""How much more than the old version the new one may cost, if the noise is not larger."""

MAX_LOAD = 1.0
SEED = 1

FIGURES = {
    "own_us": ("own us", 1),
    "postgres_us": ("PostgreSQL us", 1),
    "total_us": ("both us", 1),
    "start_s": ("start, s", 2),
    "wal_bytes": ("WAL bytes", 0),
}

Turn = dict[str, dict[str, Cost]]
"""Side -> hop -> what it cost."""


@dataclass(frozen=True)
class Comparison:
    """A hop's ratios, one a turn. `ratios`: new / mean of the old ones beside it; `noise`: old again / old."""

    ratios: Sequence[float]
    noise: Sequence[float]

    @classmethod
    def of(cls, turns: Sequence[Turn], hop: str) -> Comparison:
        """Compare the totals of a hop."""
        totals = [[each[side][hop].total_us for side in ORDER] for each in turns]
        return cls(
            [new / ((before + after) / 2) for before, new, after in totals],
            [after / before for before, _, after in totals],
        )

    @property
    def verdict(self) -> str:
        """Return whether the new version costs more than the old one may differ from itself."""
        ratio, spread = median(self.ratios), max(abs(each - 1) for each in self.noise)
        if ratio > max(ALLOWED, 1 + spread):
            return "dearer"
        if ratio > ALLOWED:
            return "within the noise"
        return "cheaper" if ratio < 1 - max(ALLOWED - 1, spread) else "alike"


def compare(options: argparse.Namespace) -> None:
    """Measure, print a table, and write all readings as JSON if that is wanted."""
    asyncio.run(_compare(options, Console()))


async def _compare(options: argparse.Namespace, console: Console) -> None:
    load = os.getloadavg()[0]
    if load > MAX_LOAD:
        console.print(
            f"[yellow]The load average is {load:.1f}: other work is measured, too. Figures are right only idle."
        )
    with checked_out(options.against) as root:
        with console.status("making the environments (half a minute each the first time)"):
            versions = {"old": Version.at(root), "new": Version.at(ROOT)}
        console.print(
            f"old {versions['old'].commit}, new {versions['new'].commit}: {options.commands:,} commands a turn"
            f"{', and odd ones among them' if options.odd else ''}"
        )
        stack = devstack.up()
        plain = market_data(options.commands, SEED, checkout=root)
        commands = with_odd(plain, SEED) if options.odd else plain
        with _progress(console) as progress:
            task = progress.add_task("", total=options.turns * len(ORDER) * len(STAGES))

            def step(side: str) -> Callable[[str], None]:
                return lambda stage: progress.update(task, description=f"{side}: {stage}", advance=1)

            turns: list[Turn] = [
                {
                    side: await turn(
                        versions[side.split()[0]],
                        stack.database_url,
                        stack.kafka_bootstrap,
                        commands,
                        len(plain),
                        step(side),
                    )
                    for side in ORDER
                }
                for _ in range(options.turns)
            ]
    console.print(*tables(turns), sep="\n")
    if options.json:
        options.json.write(json.dumps(report(turns, versions, options.commands, load), indent=1) + "\n")


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)


def tables(turns: Sequence[Turn]) -> list[Table]:
    """Return what each version costs, and how the two compare: medians, and in brackets the lowest and highest turn."""
    costs = Table("CPU", "old", "new", title=f"us a command, medians of {len(turns)} turns (lowest-highest)")
    ratios = Table("serve", "new / old", "old again / old", "")
    for hop in HOPS:
        for figure, (unit, digits) in FIGURES.items():
            sides = (_figures(turns, hop, figure, *names) for names in (("old", "old again"), ("new",)))
            costs.add_row(f"serve {hop}: {unit}", *(_spread(each, digits) for each in sides))
        costs.add_section()
        compared = Comparison.of(turns, hop)
        ratios.add_row(hop, _spread(compared.ratios, 3), _spread(compared.noise, 3), compared.verdict)
    return [costs, ratios]


def _figures(turns: Sequence[Turn], hop: str, figure: str, *sides: str) -> list[float]:
    return [getattr(each[side][hop], figure) for each in turns for side in sides]


def _spread(figures: Sequence[float], digits: int) -> str:
    return f"{median(figures):.{digits}f} ({min(figures):.{digits}f}-{max(figures):.{digits}f})"


def report(turns: Sequence[Turn], versions: dict[str, Version], commands: int, load: float) -> dict[str, Any]:
    """Return all readings, and what follows from them, as JSON takes it."""
    compared = {hop: Comparison.of(turns, hop) for hop in HOPS}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load_average": load,
        "versions": {side: version.commit for side, version in versions.items()},
        "commands": commands,
        "hops": {
            hop: {
                "old_us": median(_figures(turns, hop, "total_us", "old", "old again")),
                "new_us": median(_figures(turns, hop, "total_us", "new")),
                "new_old": median(each.ratios),
                "old_old": median(each.noise),
                "verdict": each.verdict,
            }
            for hop, each in compared.items()
        },
        "turns": [
            {side: {hop: asdict(cost) for hop, cost in costs.items()} for side, costs in each.items()}
            for each in turns
        ],
    }
