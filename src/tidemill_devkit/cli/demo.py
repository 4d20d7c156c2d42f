"""`tidemill demo`: the whole path once, on real data."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, cell, console, err_console, examples, note, print_json, say, visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID
    from rich.status import Status
    from rich.table import Table

    from tidemill_devkit.demo.place import Servers
    from tidemill_devkit.demo.report import ArchivePart, DemoReport, OutcomeLine
    from tidemill_devkit.demo.watch import Hop

EXAMPLES = examples(
    "tidemill demo", "tidemill demo --json > report.json", "tidemill demo --remove 20261121-062305"
)

_PLAIN_EVERY_S = 2.0
_INTERRUPTED = 130
_TERMINATED = 143


def demo(
    remove: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Delete database, topics and lake of a run, or of `all`, instead."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send 12,154 real quotes the whole way, with typical failures, and prove that exactly the right counts come out.

    One is written over HTTP, twice with one key, and read back.
    Old quotes are then archived: copied, read back, dropped; a forged confirmation is detected.
    Starts the servers if none are given, and five processes; creates its own database, topics and lake.
    May be repeated. Exits 1, and prints the differences, unless exactly the planned counts came out.
    """
    import asyncio

    from tidemill.domain.errors import TidemillError
    from tidemill_devkit.stack import DevstackError

    try:
        if remove is not None:
            _remove(remove, as_json)
            return
        report = _run()
    except DevstackError as error:
        raise TidemillError(str(error)) from error
    except asyncio.CancelledError:
        raise typer.Exit(_TERMINATED) from None
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        print_json(report)
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(1)


def _run() -> DemoReport:
    from tidemill.app.run import run
    from tidemill_devkit.demo.lake import demand_packages
    from tidemill_devkit.demo.run import run_demo

    demand_packages()
    found = _servers()
    listener = LiveListener() if sys.stderr.isatty() else PlainListener()
    try:
        return run(run_demo(found, listener))
    except BaseException:
        listener.close()
        if listener.run is not None:
            note("To delete what the run has made: tidemill demo --remove {run}", run=listener.run)
        raise
    finally:
        listener.close()


def _remove(chosen: str, as_json: bool) -> None:
    from tidemill.app.run import run
    from tidemill_devkit.demo.place import remove_runs

    runs = run(remove_runs(_servers().settings, chosen))
    if as_json:
        print_json({"removed": runs})
    else:
        say("removed {runs}", runs=", ".join(runs) or "nothing: no run has left anything on these servers")


def _servers() -> Servers:
    from tidemill_devkit.demo.place import servers
    from tidemill_devkit.stack.progress import shown

    with shown() as progress:
        found = servers(session.env_file, progress)
    session.use(found.settings)
    return found


# --- progress --------------------------------------------------------------------------------------------------------


class PlainListener:
    """A line for each step, and for the progress every two seconds."""

    def __init__(self) -> None:
        """Nothing is printed before something happens."""
        self._began_s = monotonic()
        self._last_s = 0.0
        self._shown = ""
        self.run: str | None = None

    def began(self, run: str) -> None:
        """Remember the run's name."""
        self.run = run

    def step(self, name: str) -> None:
        """Say nothing: what is done is said when it is done."""

    def done(self, name: str, result: str) -> None:
        """Print the result."""
        self._print(f"{name:<10} {result}")

    def hops(self, hops: Sequence[Hop]) -> None:
        """Print all progress in a line, if it changed."""
        complete = all(hop.complete for hop in hops)
        text = ", ".join(f"{hop.name} {hop.done:,}/{hop.total:,}" for hop in hops)
        if text != self._shown and (complete or monotonic() - self._last_s >= _PLAIN_EVERY_S):
            self._last_s, self._shown = monotonic(), text
            self._print(text)

    def close(self) -> None:
        """Nothing to stop."""

    def _print(self, text: str) -> None:
        typer.echo(f"{monotonic() - self._began_s:6.1f} s  {text}", err=True)


class LiveListener(PlainListener):
    """A spinner for each step, and a bar for each hop."""

    def __init__(self) -> None:
        """Nothing is shown before something happens."""
        super().__init__()
        self._console = err_console()
        self._spinner: Status | None = None
        self._bars: Progress | None = None
        self._rows: dict[str, TaskID] = {}

    def step(self, name: str) -> None:
        """Show a spinner."""
        self.close()
        self._spinner = self._console.status(f"{name:<9}")
        self._spinner.start()

    def done(self, name: str, result: str) -> None:
        """Leave a line with the result."""
        self.close()
        self._console.print(f"[green]✓[/green] {name:<9} {visible(result)}")

    def hops(self, hops: Sequence[Hop]) -> None:
        """Move the bars; those that are complete stay."""
        if self._bars is None:
            self._bars = _bars(self._console)
            self._rows = {hop.name: self._bars.add_task(hop.what, hop=hop.name, count="") for hop in hops}
            self._bars.start()
        for hop in hops:
            count = f"{hop.done:,}/{hop.total:,}"
            self._bars.update(self._rows[hop.name], completed=hop.done, total=max(1, hop.total), count=count)

    def close(self) -> None:
        """Stop the spinner; bars stay."""
        if self._spinner is not None:
            self._spinner.stop()
        if self._bars is not None:
            self._bars.stop()
        self._spinner = self._bars = None


def _bars(where: Console) -> Progress:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.fields[hop]:<9}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[count]:>13}", markup=False),
        TextColumn("{task.description}", style="dim", markup=False),
        console=where,
    )


# --- the summary -----------------------------------------------------------------------------------------------------


def _show(report: DemoReport) -> None:
    seconds = ", ".join(f"{step} {taken:.1f}" for step, taken in report.seconds.items())
    total = f"{sum(report.seconds.values()):.1f} s"
    say("")
    say(f"[bold]What became of the {report.records:,} records[/bold], which caused {report.events:,} events")
    _print_indented(_outcomes(report.outcomes))
    say("[bold]Latest quotes[/bold], from a read model")
    _print_indented(_latest(report))
    say("[bold]Highest and lowest price of each year[/bold], from the daily bars")
    _print_indented(_years(report))
    say("[bold]What left the database[/bold], copied to a lake, read back and compared")
    _print_indented(_archive(report.archive))
    say("[bold]Proof[/bold]")
    _print_indented(_checks(report))
    say("[bold]What to type next[/bold]")
    _show_next(report)
    summary = (
        "[bold green]Everything came out as planned[/bold green]"
        if report.ok
        else "[bold red]Not everything came out as planned[/bold red]; what differs is marked above"
    )
    say(f"{summary}, in {total} ({seconds}).")


def _outcomes(lines: Sequence[OutcomeLine]) -> Table:
    table = _grid("right", "left", "left")
    for line in lines:
        number = cell(line.found)
        if line.found != line.planned:
            number = f"[bold red]{number}, planned {line.planned:,}[/bold red]"
        colour = {"applied": "green", "duplicate": "yellow"}.get(line.outcome, "red")
        code = f"[bold]{visible(line.code)}[/bold]: " if line.code else ""
        text = code + visible(line.advice)
        if line.example is not None:
            name = line.example.command_id or line.example.place
            why = f": {line.example.message}" if line.example.message else ""
            text += f"\n[dim]e.g. {visible(name + why)}[/dim]"
        table.add_row(number, f"[{colour}]{line.outcome}[/{colour}]", text)
    return table


def _latest(report: DemoReport) -> Table:
    table = _grid("left", "right", "left", "left")
    for quote in report.latest:
        table.add_row(quote.symbol, f"{quote.price:.2f}", f"on {quote.day}", f"of {quote.bars:,} daily bars")
    return table


def _years(report: DemoReport) -> Table:
    symbols = sorted({year.symbol for year in report.years})
    found = {(year.year, year.symbol): f"{year.high:.2f} {year.low:.2f}" for year in report.years}
    table = _grid("left", *("right" for _ in symbols))
    table.add_row("", *symbols, style="bold")
    for year in sorted({year.year for year in report.years}):
        table.add_row(str(year), *(found.get((year, symbol), "") for symbol in symbols))
    return table


def _archive(archive: ArchivePart) -> Table:
    table = _grid("left", "right", "right", "right", "left")
    table.add_row("range", "rows", "database", "lake", "", style="bold")
    for each in archive.ranges:
        sizes = (f"{size / 1024:,.0f} KB" for size in (each.hot_bytes, each.lake_bytes))
        state = {"restored": "[yellow]restored[/yellow]"}.get(each.state, "[green]" + each.state + "[/green]")
        files = f"{state}, {each.files} file" + ("" if each.files == 1 else "s")
        table.add_row(f"{each.start} .. {each.end}", cell(each.rows), *sizes, files)
    sums = [
        sum(getattr(each, name) for each in archive.ranges) for name in ("rows", "hot_bytes", "lake_bytes")
    ]
    table.add_row("", cell(sums[0]), *(f"{size / 1024:,.0f} KB" for size in sums[1:]), style="bold")
    return table


def _checks(report: DemoReport) -> Table:
    table = _grid("left", "left")
    for check in report.checks:
        mark = "[green]✓[/green]" if check.ok else "[bold red]✗[/bold red]"
        detail = f"[dim]{visible(check.detail)}[/dim]" if check.ok else f"[red]{visible(check.detail)}[/red]"
        table.add_row(mark, f"{visible(check.name)}\n{detail}")
    return table


def _show_next(report: DemoReport) -> None:
    """Print commands as they are to be typed: folded lines could not be copied."""
    program = _program()
    groups: tuple[tuple[str, Sequence[str]], ...] = (
        ("to look at it", report.look),
        ("to continue: each in its own terminal, with the line above", report.go_on),
        ("TIDEMILL_HTTP_PORT=8000 before the first serves HTTP, too: /docs there", []),
        ("to clean up", report.clean_up),
    )
    say("  set -a; . {file}; set +a  [dim]# this run's variables[/dim]", file=report.env_file)
    say("  [dim]# to read the lake without Tidemill[/dim]")
    say("  {python} {line}", python=_beside("python"), line=report.archive.read)
    for meaning, verbs in groups:
        say("  [dim]# {meaning}[/dim]", meaning=meaning)
        for verb in verbs:
            say("  {program} {verb}", program=program, verb=verb)
    say("")


def _grid(*justify: str) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for side in justify:
        grid.add_column(justify=side, overflow="fold")  # type: ignore[arg-type]  # "left" or "right"
    return grid


def _print_indented(what: RenderableType) -> None:
    from rich.padding import Padding

    console().print(Padding(what, (0, 0, 1, 2), expand=False))


def _program() -> str:
    """Return the command of this program in this folder."""
    name = _beside("tidemill")
    return name if session.env_file is None else f"{name} --env-file {session.env_file}"


def _beside(name: str) -> str:
    """Return the command of another program of this environment."""
    ours = Path(sys.executable).parent / name
    on_path = shutil.which(name)
    if on_path is not None and Path(on_path).parent.resolve() == ours.parent.resolve():
        return name  # an interpreter is a link to one without these packages, so the link's place counts
    here = Path.cwd()
    return str(ours.relative_to(here)) if ours.is_relative_to(here) else str(ours)
