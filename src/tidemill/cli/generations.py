"""`tidemill generations`: in which form the outbox is written."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, print_json, say

if TYPE_CHECKING:
    from tidemill.admin.generations import OutboxForm

app = typer.Typer(
    help="The generations of the log and the outbox: how they are written.", no_args_is_help=True
)


class WrittenForm(StrEnum):
    """The forms of the outbox."""

    PACKS = "packs"
    ROWS = "rows"


@app.command(epilog=examples("tidemill generations show", "tidemill generations show --json"))
def show(as_json: AsJson = False) -> None:
    """Show how the outbox is written now, and how many packs are not published yet."""
    _tell(session.ask(lambda admin: admin.outbox_forms.form()), as_json)


@app.command(epilog=examples("tidemill generations use packs", "tidemill generations use rows"))
def use(
    form: Annotated[
        WrittenForm, typer.Argument(help="packs, or rows, which the version before can read, too.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write the outbox in packs from now on, or in rows: both are read at any time.

    A new deployment begins with packs, which cost less; one that was upgraded keeps rows until this is called. To go
    back to the version before: use rows, wait until `generations show` counts no unsent packs, then install it.
    """
    packs = form is WrittenForm.PACKS
    used = session.act(f"generations use {form}", lambda admin: admin.outbox_forms.use(packs=packs))
    _tell(used, as_json)


def _tell(form: OutboxForm, as_json: bool) -> None:
    if as_json:
        print_json(form._asdict())
        return
    name = WrittenForm.PACKS if form.packs else WrittenForm.ROWS
    say(
        f"Generation {form.generation} is written in {name}; {form.unsent_packs} packs are not published yet."
    )
