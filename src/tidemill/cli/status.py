"""`tidemill status`: the progress of every step, and what is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, say
from tidemill.domain.lane import spans

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tidemill.admin.archive.status import ArchiveStatus
    from tidemill.admin.progress import HiddenRecords
    from tidemill.admin.rows import ForeignRecords, GroupMember
    from tidemill.admin.status import HaltStatus, Status, WaitStatus
    from tidemill.app.admin import Admin
    from tidemill.catalog.misfits import Misfit
    from tidemill.catalog.tables import Difference
    from tidemill.domain.community import LackingFeature
    from tidemill.security.gate import SecretFault

T = TypeVar("T")

EXAMPLES = examples("tidemill status", "tidemill status --json", "tidemill status --wait 60")

_UNSERVED = (
    "No process owns a lane of {names}: restart `tidemill serve`; a process serves the contexts that were installed "
    "when it started."
)


def status(
    wait: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="Wait for so long until every lane is owned and every read model has begun.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the lag of every step: commands to consume, records to publish, events to fold; what is halted, and why.

    Exits 1 if something is halted, a table is not as declared, master keys are missing, or a server does not answer;
    with --wait also if something is still not served.
    """
    found = session.ask(lambda admin: _read(admin, wait))
    if as_json:
        print_json(found)
    else:
        _show(found)
    late = found.unready if wait is not None else ()
    for missing in late:
        note("[red]not served[/red] {missing}", missing=missing)
    if late or not found.ok:
        raise typer.Exit(1)


async def _read(admin: Admin, wait_s: float | None) -> Status:
    from tidemill.admin.readiness import until_ready

    if wait_s is None:
        return await admin.status.read()
    return await until_ready(admin.status.read, lambda status: not status.unready, wait_s)


def _show(found: Status) -> None:
    rows = [
        (
            each.aggregate,
            each.lanes,
            each.owned,
            each.halted,
            _unknown(each.command_lag),
            _seconds(found.at, each.command_since),
            each.unpublished,
            _seconds(found.at, each.unpublished_since),
            each.events,
        )
        for each in found.streams
    ]
    columns = (
        "aggregate",
        "lanes",
        "owned",
        "halted",
        "to consume",
        "for s",
        "to publish",
        "for s",
        "events",
    )
    print_table(columns, rows, title="Commands in, events out")
    views = [
        (
            each.projection,
            each.aggregate,
            each.halted,
            each.lag if each.started else "never started",
            _seconds(found.at, each.since),
        )
        for each in found.views
    ]
    print_table(("read model", "of", "halted", "to fold", "for s"), views, title="Read models")
    _show_archive(found.archive)
    _show_processes(found)
    _show_stopped(found)
    for wait in found.waiting:
        _show_wait(wait)
    for hidden in found.hidden:
        _show_hidden(hidden, found.at)
    for each in found.foreign:
        _show_foreign(each)
    _show_lacking(found.edition, found.lacking)
    if found.clock is not None:
        say("[yellow]clock[/yellow] {clock}", clock=found.clock)
    _show_next(found)


def _show_next(state: Status) -> None:
    if state.trouble is not None:
        note("[red]{trouble}[/red]", trouble=state.trouble)
    elif state.streams and not any(stream.owned for stream in state.streams):
        note("No process owns a lane: start one with `tidemill serve all`.")
    elif names := ", ".join(
        stream.aggregate for stream in state.streams if stream.lanes and not stream.owned
    ):
        note(_UNSERVED, names=names)


def _show_archive(tables: Sequence[ArchiveStatus]) -> None:
    rows = [
        (
            each.table,
            ", ".join(f"{slices:,} {state}" for state, slices in each.slices.items()) or "nothing yet",
            each.diverted,
            _since(each.oldest_seal, "none"),
        )
        for each in tables
    ]
    if rows:
        print_table(("table", "slices", "diverted rows", "oldest seal"), rows, title="Archive")
    for each in tables:
        if each.set_aside:
            text = "[yellow]set aside[/yellow] {table}: {slices} slices whose copies differ from what was requested"
            say(text, table=each.table, slices=each.set_aside)


def _show_processes(found: Status) -> None:
    rows = [
        (
            each.process.removeprefix("tidemill "),
            _unknown(each.version),
            each.connections,
            _unknown(each.open_files),
            "?" if each.version is None else _unlimited(each.file_limit),
            _since(each.at, "never"),
        )
        for each in found.processes
    ]
    if rows:
        columns = ("process", "version", "connections", "open files", "of at most", "reported at")
        print_table(columns, rows, title="Processes")


def _show_stopped(answer: Status) -> None:
    for misfit in answer.misfits:
        _show_misfit(misfit)
    _show_differences(answer.differences)
    for fault in answer.secrets:
        _show_secret(fault)
    for halt in answer.halts:
        _show_halt(halt)
    for member in answer.foreign_members:
        _show_member(member)


def _show_hidden(hidden: HiddenRecords, now: datetime | None) -> None:
    text = "[yellow]waiting[/yellow] lane {lane}: {records} records behind an open transaction, the oldest for {age} s"
    say(text, lane=hidden.name, records=hidden.records, age=_seconds(now, hidden.since))
    say(
        "        they are consumed when it ends; `kafka-transactions.sh find-hanging` names one that does not end"
    )


def _show_member(member: GroupMember) -> None:
    text = "[red]stopped[/red] {topic}/{partitions}: another program, {client} at {host}, is in the group {group}"
    say(
        text,
        topic=member.topic,
        partitions=spans(member.partitions),
        client=member.client_id,
        host=member.host,
        group=member.group,
    )
    say("       no process can own these lanes: let it read in a group of its own")


def _show_foreign(foreign: ForeignRecords) -> None:
    text = f"[yellow]another program[/yellow] wrote into {foreign.topic}/{foreign.partition}"
    if foreign.records:
        text += (
            f": read models left out {foreign.records:,} records, the last at offset {foreign.last_offset}"
        )
    if foreign.accepted_offset is not None:
        text += f"; accepted up to offset {foreign.accepted_offset}"
    say(text + "; revoke its right to write there")


def _seconds(now: datetime | None, since: datetime | None) -> int | str:
    return "" if now is None or since is None else max(0, round((now - since).total_seconds()))


def _since(at: datetime | None, otherwise: str) -> str:
    return otherwise if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def _show_halt(halt: HaltStatus) -> None:
    text = "[red]halted[/red] {what} since {since}: [bold]{code}[/bold]: {detail}"
    say(text, what=halt.what, since=halt.since, code=halt.code, detail=halt.detail)
    say("       {advice}", advice=halt.advice)


def _show_misfit(misfit: Misfit) -> None:
    what = misfit.projection or misfit.aggregate
    for difference in misfit.differences:
        say(
            "[red]stopped[/red] {what}: [bold]{code}[/bold]: {told}",
            what=what,
            code=misfit.code,
            told=difference,
        )
    say("       {advice}", advice=misfit.advice)


def _show_secret(fault: SecretFault) -> None:
    text = "[red]stopped[/red] {what}: [bold]{code}[/bold]: {reason}"
    say(text, what=fault.aggregate, code=fault.code, reason=fault.reason)
    say("       {advice}", advice=fault.advice)


def _show_differences(differences: Sequence[Difference]) -> None:
    for difference in differences:
        say("[yellow]not as declared[/yellow] {difference}", difference=difference)
    if differences:
        say(
            "                commands are applied meanwhile; `tidemill migrate check` shows what would fix it"
        )


def _show_lacking(edition: str | None, features: Sequence[LackingFeature]) -> None:
    for lacking in features:
        text = "[yellow]{edition} edition[/yellow] {aggregate} has no {feature}: {instead}"
        say(
            text,
            edition=edition,
            aggregate=lacking.aggregate,
            feature=lacking.feature,
            instead=lacking.instead,
        )
        say("        {advice}", advice=lacking.advice)


def _show_wait(wait: WaitStatus) -> None:
    text = "[yellow]waiting[/yellow] lane {lane} since {since}, before offset {offset} of {service}: {detail}"
    service = wait.service or "an unnamed service"
    say(text, lane=wait.lane, since=wait.since, offset=wait.offset, service=service, detail=wait.detail)
    text = (
        "        a process that knows the schema continues; else it is parked at {until}, or by hand: {verb}"
    )
    say(text, until=wait.until, verb=f"tidemill lanes resume {wait.lane} --park --reason TEXT")


def _unknown(value: T | None) -> T | str:
    return "?" if value is None else value


def _unlimited(limit: int | None) -> int | str:
    return "no limit" if limit is None else limit
