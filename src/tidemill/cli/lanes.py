"""`tidemill lanes`: show lanes, and decide how a halted one continues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, cell, examples, note, print_json, print_table, say

if TYPE_CHECKING:
    from tidemill.admin.lanes.overview import LaneShown

app = typer.Typer(
    help="The lanes: their owners, their progress, what to do with a halted one.", no_args_is_help=True
)

Lane = Annotated[str, typer.Argument(help="A lane: its number, or AGGREGATE/PARTITION as in market-data/3.")]
Reason = Annotated[str, typer.Option(help="The reason; it is stored in the ledger.")]


@app.command(
    "list", epilog=examples("tidemill lanes list", "tidemill lanes list --aggregate market-data --halted")
)
def list_(
    aggregate: Annotated[str | None, typer.Option(help="Only of this aggregate.")] = None,
    halted: Annotated[bool, typer.Option("--halted", help="Only halted lanes.")] = False,
    as_json: AsJson = False,
) -> None:
    """List lanes: owner, next offset, position, event sequence, what is published, and why one is stopped.

    A stopped lane is halted (the code), or waits for a process of a newer version (`waiting`).
    """
    found = session.ask(lambda admin: admin.lanes.every(aggregate))
    chosen = [each for each in found if each.halt_code is not None or not halted]
    if as_json:
        print_json(chosen)
        return
    columns = ("lane", "name", "next offset", "position", "sequence", "published", "stands", "owner")
    rows = [
        (
            each.lane,
            each.name,
            each.next_offset,
            each.position,
            each.sequence,
            each.published_sequence,
            each.halt_code or ("waiting" if each.waits_since is not None else None),
            (each.owner or "").removeprefix("tidemill "),
        )
        for each in chosen
    ]
    print_table(columns, rows, last_is_cut=True)


@app.command(
    epilog=examples("tidemill lanes show market-data/3", "tidemill lanes show 7 --entries 50 --json")
)
def show(
    lane: Lane,
    entries: Annotated[
        int, typer.Option(min=1, max=10_000, help="Show this many entries of its ledger.")
    ] = 10,
    as_json: AsJson = False,
) -> None:
    """Show a lane and the newest entries of its ledger; if it is halted, what that means and what can be done."""
    found = session.ask(lambda admin: admin.lanes.show(lane, entries))
    if as_json:
        print_json(
            {"lane": found.state, "ledger": found.ledger, "advice": found.advice, "choices": found.choices}
        )
        return
    _show(found)


def _show(found: LaneShown) -> None:
    state = found.state
    say(f"[bold]lane {state.lane}, {state.name}[/bold]: {state.command_topic} -> {state.event_topic}")
    say(
        "owner      {owner}, epoch {epoch}, claimed {at}",
        owner=state.owner,
        epoch=state.epoch,
        at=state.claimed_at,
    )
    say(
        f"consumed   up to offset {state.next_offset:,}; {state.position:,} records, {state.sequence:,} events"
    )
    published = f"{state.published_position or 0:,} records, {state.published_sequence or 0:,} events"
    say(f"published  {published}, as of {cell(state.published_at)}; timeline {state.timeline}")
    if state.halt_code is not None:
        text = "[red]halted[/red]     {code} since {since}: {detail}"
        say(text, code=state.halt_code, since=state.halted_since, detail=state.halt_detail)
        say(f"           {found.advice}")
        for number, choice in enumerate(found.choices):
            say(f"{'or' if number else 'what next':11}{{choice}}", choice=choice)
    if state.waits_since is not None:
        text = "[yellow]waiting[/yellow]    since {since}, before offset {offset} of {service}: {detail}"
        service = state.waits_service or "an unnamed service"
        say(
            text,
            since=state.waits_since,
            offset=state.waits_before,
            service=service,
            detail=state.waits_detail,
        )
        say("           parked at {until} if no process that knows the schema comes", until=state.waits_until)
        say("what next  park it: {verb}", verb=f"tidemill lanes resume {state.name} --park --reason TEXT")
    columns = ("batch", "offsets", "applied", "rejected", "duplicate", "parked", "events", "at", "reason")
    rows = [
        (
            entry.batch,
            f"{entry.from_offset}-{entry.to_offset}",
            entry.applied,
            entry.rejected,
            entry.duplicate,
            entry.parked,
            entry.events,
            entry.at,
            entry.reason or "",
        )
        for entry in found.ledger
    ]
    print_table(columns, rows, title="Ledger, newest first")


@app.command(
    epilog=examples(
        "tidemill lanes resume market-data/3 --skip-to 1042 --reason 'unreadable batch, see ticket 77'",
        "tidemill lanes resume market-data/3 --park --reason 'schema 14 was withdrawn'",
    )
)
def resume(
    lane: Lane,
    skip_to: Annotated[
        int | None, typer.Option(min=0, help="Continue at this offset, whatever is before it.")
    ] = None,
    accept_foreign: Annotated[
        bool,
        typer.Option("--accept-foreign", help="Continue after records of another program in its topics."),
    ] = False,
    park: Annotated[
        bool, typer.Option("--park", help="Park the command of a newer version that the lane waits for.")
    ] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Resume a halted lane if its cause is gone, or as you decide; or a lane that waits."""
    from tidemill.domain.errors import UsageError

    if (skip_to is not None) + accept_foreign + park > 1:
        raise UsageError("--skip-to, --accept-foreign and --park decide different things: choose one")
    if park:
        parked = session.act(
            "lanes resume",
            lambda admin: admin.lane_decisions.park(lane, reason),
            lane=lane,
            park=True,
            reason=reason,
        )
        _told(
            as_json,
            parked,
            f"lane {lane} continues: offset {parked.offset}, of schema {parked.schema}, is parked; for one day "
            "later commands of a newer version are parked, too.",
        )
        return
    if accept_foreign:
        accepted = session.act(
            "lanes resume",
            lambda admin: admin.lane_decisions.accept(lane, reason),
            lane=lane,
            accept_foreign=True,
            reason=reason,
        )
        places = ", ".join(f"{topic} up to offset {offset}" for topic, offset in accepted.items())
        _told(as_json, accepted, f"lane {lane} continues after the records of another program: {places}.")
        return
    if skip_to is None:
        cleared = session.act("lanes resume", lambda admin: admin.lane_decisions.resume(lane), lane=lane)
        _told(as_json, cleared, f"lane {lane} was halted with {cleared.code}; it continues.")
        return
    skipped = session.act(
        "lanes resume",
        lambda admin: admin.lane_decisions.skip(lane, skip_to, reason),
        lane=lane,
        skip_to=skip_to,
        reason=reason,
    )
    _told(
        as_json, skipped, f"lane {lane} continues at offset {skipped.end}; it was stopped at {skipped.start}."
    )


@app.command(epilog=examples("tidemill lanes reconcile market-data/3 --reason 'database restored to 12:00'"))
def reconcile(lane: Lane, reason: Reason, as_json: AsJson = False) -> None:
    """Resume a lane after its database or its topics were restored: it continues after the end of the topics.

    Its events continue at the topic's last number + 1 on a raised timeline (header tm_timeline).
    """
    reconciled = session.act(
        "lanes reconcile",
        lambda admin: admin.lane_decisions.reconcile(lane, reason),
        lane=lane,
        reason=reason,
    )
    moved = "with new numbers" if reconciled.moved else "with their own numbers"
    text = (
        f"lane {lane} continues after event {reconciled.sequence} on timeline {reconciled.timeline}; "
        f"{reconciled.again} rows of the outbox are sent, some of them again, {moved}."
    )
    if reconciled.withdrawn:
        text += f" {reconciled.withdrawn} events of the topic are withdrawn: read models leave them out."
    if reconciled.lost:
        text += f" {reconciled.lost} events are missing from the topic: no read model can be rebuilt from it."
    _told(as_json, reconciled, text)


def _told(as_json: bool, answer: object, text: str) -> None:
    if as_json:
        print_json(answer)
        return
    say(text)
    note("Its owner claims it again within seconds: tidemill status")
