"""`tidemill secrets`: the keys that encrypt the secret fields of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, progress, say

if TYPE_CHECKING:
    from tidemill.admin.secrets import RotationResult, SecretStatus

app = typer.Typer(
    help="The keys that encrypt secrets: which master keys are in use, rotation, erasure.",
    no_args_is_help=True,
)

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: what is erased cannot be read by anybody.")]


@app.command(epilog=examples("tidemill secrets status", "tidemill secrets status --json"))
def status(as_json: AsJson = False) -> None:
    """Show master keys and the number of rows' keys that each wraps; exits 1 if some cannot be unwrapped here."""
    answer = session.ask(lambda admin: admin.secrets.status())
    if as_json:
        print_json(answer)
    else:
        _show(answer)
    if answer.unreadable:
        raise typer.Exit(1)


def _show(answer: SecretStatus) -> None:
    masters = [(master.name, master.standing, master.keys) for master in answer.masters]
    print_table(("master key", "here it", "keys of rows"), masters, title="Master keys")
    collections = [(row.collection, row.master, row.keys, row.erased) for row in answer.collections]
    print_table(("collection", "master key", "keys", "erased"), collections, title="Keys of rows")
    if answer.unreadable:
        text = (
            "[red]{count} keys[/red] cannot be unwrapped here: add their master keys to TIDEMILL_SECRET_KEYS"
        )
        say(text, count=answer.unreadable)
    if not answer.masters:
        note("No master key is set or in use: tidemill secrets new-key makes one.")


@app.command(epilog=examples("tidemill secrets rotate", "tidemill secrets rotate --json"))
def rotate(as_json: AsJson = False) -> None:
    """Wrap the keys of all rows by the first master key; exits 1 if some cannot be unwrapped.

    Services go on meanwhile, if they have both master keys. It may be ended and begun again at any time.
    """
    with progress("keys", quiet=as_json) as bar:
        task = bar.add_task("rotate", total=None)
        result = session.act(
            "secrets rotate",
            lambda admin: admin.secrets.rotate(lambda count: bar.update(task, advance=count)),
        )
    if as_json:
        print_json(result)
    else:
        _say_rotated(result)
    if result.unreadable:
        raise typer.Exit(1)


def _say_rotated(result: RotationResult) -> None:
    say("{count} keys are wrapped by {master} now.", count=result.rewrapped, master=result.master)
    for name in result.removed:
        say("Nothing needs {name} any more: take it out of TIDEMILL_SECRET_KEYS.", name=name)
    for name, count in result.unreadable.items():
        text = "[red]{count} keys[/red] stay with {name}, which is not set here or is another key"
        say(text, count=count, name=name)


@app.command(epilog=examples("tidemill secrets erase users ann --yes"))
def erase(
    aggregate: Annotated[
        str, typer.Argument(help="The aggregate; of a family the collection of the row, such as files.")
    ],
    key: Annotated[str, typer.Argument(help="The key of the row.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase the key of a row: nobody can read its secrets any more, in tables, topics or archives."""
    _demand_consent(f"erase the secrets of {aggregate} {key!r} permanently?", yes)
    count = session.act(
        "secrets erase", lambda admin: admin.secrets.erase(aggregate, key), aggregate=aggregate, key=key
    )
    if as_json:
        print_json({"aggregate": aggregate, "key": key, "erased": count})
        return
    say("{count} keys of {key} are erased.", count=count, key=key)
    note("Commands as they were sent stay in their topic until its retention ends: docs/secrets.md")


@app.command(epilog=examples("tidemill secrets forget 2025 --yes"))
def forget(
    master: Annotated[str, typer.Argument(help="The name of a master key that is lost.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give up a master key that is lost, with all keys of rows that it wraps, so that services go on without it."""
    _demand_consent(f"erase every secret that master key {master} protects permanently?", yes)
    count = session.act("secrets forget", lambda admin: admin.secrets.give_up(master), master=master)
    if as_json:
        print_json({"master": master, "erased": count})
        return
    say("{master} is given up; {count} keys of rows are erased.", master=master, count=count)


@app.command(name="new-key", epilog=examples("tidemill secrets new-key 2026"))
def new_key(
    name: Annotated[str, typer.Argument(help="Its name, stored beside what it wraps.")],
    as_json: AsJson = False,
) -> None:
    """Print a new master key for TIDEMILL_SECRET_KEYS. It is stored nowhere: keep a copy apart from the database."""
    from tidemill.admin.secrets import new_master_key

    setting = new_master_key(name)
    if as_json:
        print_json({"name": name, "setting": setting})
        return
    typer.echo(setting)
    note(
        "Put it first in TIDEMILL_SECRET_KEYS once every process has it behind the present one: docs/secrets.md"
    )


def _demand_consent(question: str, yes: bool) -> None:
    if not yes:
        typer.confirm(question[0].upper() + question[1:], abort=True, err=True)
