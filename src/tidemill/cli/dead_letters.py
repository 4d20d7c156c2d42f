"""`tidemill dead-letters`: records that could not be read or processed, unchanged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, say

app = typer.Typer(help="Records that could not be read or processed, kept unchanged.", no_args_is_help=True)


@app.command("list", epilog=examples("tidemill dead-letters list --code MALFORMED --limit 20"))
def list_(
    aggregate: Annotated[str | None, typer.Option(help="Only of this aggregate.")] = None,
    code: Annotated[str | None, typer.Option(help="Only with this code, e.g. MALFORMED.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="Show at most this many, newest first.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """List parked records, newest first."""
    found = session.ask(lambda admin: admin.dead_letters.newest(aggregate=aggregate, code=code, limit=limit))
    if as_json:
        print_json(found)
        return
    if not found:
        say("No record is parked." if aggregate is code is None else "No such record is parked.")
        return
    columns = ("lane", "position", "record", "code", "bytes", "at", "detail")
    rows = [
        (
            each.name,
            str(each.position),  # as the operator types it
            f"{each.topic}/{each.partition}@{each.record_offset}",
            each.code,
            each.bytes,
            each.at,
            each.detail,
        )
        for each in found
    ]
    print_table(columns, rows)
    note(f"One of them in full: tidemill dead-letters show {found[0].name} {found[0].position}")


@app.command(
    epilog=examples(
        "tidemill dead-letters show market-data/1 1042",
        "tidemill dead-letters show tidemill.market-data.commands.v1/1@5128 --json",
    )
)
def show(
    where: Annotated[
        str,
        typer.Argument(
            help="A lane, by number or as AGGREGATE/PARTITION; or a record, TOPIC/PARTITION@OFFSET."
        ),
    ],
    position: Annotated[str | None, typer.Argument(help="The record's position in the lane.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one parked record with its key, headers and value."""
    found = session.ask(lambda admin: admin.dead_letters.show(where, position))
    if as_json:
        print_json({**found.entry._asdict(), **as_it_came(found.key, found.value, found.headers)})
        return
    entry = found.entry
    place = f"{entry.topic}/{entry.partition}@{entry.record_offset}"
    lane = f"lane {entry.name}, position {entry.position}"
    say(
        "[bold]{place}[/bold]  {state} at {at}, {lane}",
        place=place,
        state=entry.state,
        at=entry.at,
        lane=lane,
    )
    say("[red]{code}[/red]: {detail}", code=entry.code, detail=entry.detail)
    say("key     {key}", key=found.key)
    for name, content in found.headers:
        say("header  {name}: {content}", name=name, content=content)
    print_value(found.value)


def as_it_came(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]
) -> dict[str, Any]:
    """Return a record's bytes as hex, null where it has none, and its headers in their order, repeated ones too."""
    return {
        "key_hex": hex_of(key),
        "value_hex": hex_of(value),
        "headers": [{"name": name, "value_hex": hex_of(content)} for name, content in headers],
    }


def hex_of(value: bytes | None) -> str | None:
    """Return bytes in a form that a program can decode."""
    return None if value is None else value.hex()


def print_value(value: bytes | None) -> None:
    """Print bytes as hex and text, sixteen to a line."""
    if value is None:
        say("value   null")
        return
    for start in range(0, min(len(value), 4096), 16):
        part = value[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        typer.echo(f"{start:08x}  {part.hex(' '):<47}  {text}")
    if len(value) > 4096:
        note(f"... {len(value) - 4096:,} more bytes; all of it with --json")
