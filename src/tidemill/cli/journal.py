"""`tidemill audit --journal`: who did what by hand or over HTTP, and whether that was changed since."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tidemill.cli import session
from tidemill.cli.output import note, print_json, print_table, progress, say
from tidemill.domain.errors import UsageError

if TYPE_CHECKING:
    from tidemill.admin.audit.journal import JournalAudit
    from tidemill.security.journal import ChainEnd


def check(anchor: Path | None, write_anchor: Path | None, as_json: bool) -> None:
    """Walk the journal and print what is wrong; exits 1 if something is.

    `anchor`: a file with ends of chains to compare with. `write_anchor`: a file for the ends, written if nothing is
    wrong. Raises `UsageError`, `Unavailable`.
    """
    anchors = [] if anchor is None else read_anchors(anchor)
    ends: list[ChainEnd] = []
    with progress("entries", quiet=as_json) as bar:
        task = bar.add_task("journal", total=None)
        result = session.ask(
            lambda admin: admin.journal_audit.run(
                anchors=anchors,
                progress=lambda entries, total: bar.update(task, completed=entries, total=total),
                end_of_chain=ends.append if write_anchor is not None else None,
            )
        )
    if write_anchor is not None and not result.finding_count:
        write_anchors(write_anchor, ends)
    if as_json:
        print_json({"intact": not result.finding_count, **_plain(result)})
    else:
        _show(result)
    if result.finding_count:
        raise typer.Exit(1)


def read_anchors(path: Path) -> list[ChainEnd]:
    """Return the ends of chains of a file. Raises `UsageError` if it cannot be read, or is not such a file."""
    from tidemill.security.journal import ChainEnd

    anchors = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise UsageError(f"{path} cannot be read: {fault}") from fault
    for number, line in enumerate(lines, start=1):
        try:
            anchors.append(ChainEnd.parse(line))
        except ValueError as fault:
            raise UsageError(f"{path}, line {number}: {fault}") from fault
    return anchors


def write_anchors(path: Path, anchors: list[ChainEnd]) -> None:
    """Write the ends of chains to a file, whole or not at all. Raises `UsageError` if it cannot be written."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text("".join(f"{anchor.text()}\n" for anchor in anchors), encoding="utf-8")
        unfinished.replace(path)
    except OSError as fault:
        raise UsageError(f"{path} cannot be written: {fault}") from fault


def _plain(result: JournalAudit) -> dict[str, object]:
    return {
        "entries": result.entries,
        "chains": result.chains,
        "anchors": result.anchors,
        "finding_count": result.finding_count,
        "findings": result.findings,
        "open_count": result.open_count,
        "open": result.open,
    }


def _show(result: JournalAudit) -> None:
    columns = ("chain", "number", "at", "who", "what", "collection", "command", "it is", "code")
    rows = [
        (
            entry.writer,
            entry.number,
            entry.at,
            entry.principal,
            entry.action,
            entry.collection,
            entry.command_id,
            entry.resolution,
            entry.code,
        )
        for entry in result.open
    ]
    if rows:
        print_table(columns, rows, title=f"Begun without an outcome: {result.open_count:,}")
    for finding in result.findings:
        text = "[red]{fault}[/red] chain {writer}, number {number}: {detail}"
        say(text, fault=finding.fault, writer=finding.writer, number=finding.number, detail=finding.detail)
    if result.finding_count > len(result.findings):
        note(f"{result.finding_count - len(result.findings):,} more findings are not listed.")
    counts = f"{result.entries:,} entries in {result.chains:,} chains"
    if not result.finding_count:
        say(f"[green]The journal is whole[/green]: {counts}, {result.anchors:,} anchors compared.")
    if not result.anchors:
        note(
            "Without --anchor an end that was cut off is not seen: keep one elsewhere with --write-anchor FILE."
        )
