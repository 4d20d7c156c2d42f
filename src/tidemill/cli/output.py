"""The output of verbs: tables for people, JSON for programs, errors in a line or two, progress on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli import session
from tidemill.domain.errors import MasterKeyMissing, SecretUnreadable, TidemillError, Unavailable, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON instead of text for people.", callback=session.remember_reader),
]

FAILED = 1
USAGE = 2


def examples(*lines: str) -> str:
    """Return the end of a verb's help: how it is used, a line each."""
    return "\n".join(["[bold]Examples[/bold]", *(f"  {line.replace('[', chr(92) + '[')}" for line in lines)])


def fail(error: TidemillError) -> int:
    """Print what happened and what to do next; return the exit code."""
    text = session.without_secrets("\n".join(filter(None, (str(error), _next_step(error)))))
    first, *rest = text.splitlines() or [type(error).__name__]
    err_console().print("[bold red]Error:[/bold red]", end=" ")
    err_console().print(first, markup=False)
    for line in rest:
        err_console().print(line, markup=False)
    if session.read_by_program:
        told = json.dumps({"error": _without_secrets(problem(error))}, ensure_ascii=False)
        typer.echo(_whole(told), err=True)
    return USAGE if isinstance(error, UsageError) else FAILED


def _next_step(error: TidemillError) -> str | None:
    """Return what to do next, where the error's own text does not say it."""
    if isinstance(error, Unavailable) and not error.advised:
        return session.address_hint(error.server)
    if isinstance(error, MasterKeyMissing | SecretUnreadable):
        return error.advice[:1].upper() + error.advice[1:]
    return None


def problem(error: TidemillError) -> dict[str, Any]:
    """Return what a program reads of an error: nothing of it has to be parsed out of the message."""
    return {
        "code": str(error.code),
        "kind": str(error.kind),
        "message": str(error),
        "advice": error.advice,
        "fields": plain(error.fields),
    }


def _without_secrets(value: Any) -> Any:
    """Return a value of JSON without the secrets of this call: before it is written, since that may escape them."""
    if isinstance(value, Mapping):
        return {name: _without_secrets(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return session.without_secrets(value) if isinstance(value, str) else value


def console() -> Console:
    """Return the terminal, or a plain and unfolded stream where there is none."""
    from rich.console import Console

    wide = {} if sys.stdout.isatty() else {"width": 10_000}
    return Console(highlight=False, soft_wrap=False, **wide)  # type: ignore[arg-type]  # a width, or none


def err_console() -> Console:
    """Return the stream for errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, **values: Any) -> None:
    """Print a line for people: `text` has markup and names `values`, which are shown as they are."""
    console().print(
        text.format(**{name: cell(value) for name, value in values.items()}) if values else text,
        soft_wrap=True,
    )


def note(text: str, **values: Any) -> None:
    """Print a line for people beside what a program may read: on standard error."""
    shown = {name: cell(value) for name, value in values.items()}
    err_console().print(text.format(**shown) if values else text)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(_whole(json.dumps(plain(value), indent=2, ensure_ascii=False)))


def print_json_line(value: Any) -> None:
    """Print a value as one line of JSON."""
    typer.echo(_whole(json.dumps(plain(value), ensure_ascii=False)))


def _whole(text: str) -> str:
    """Return JSON that any terminal takes: a lone surrogate, as which a foreign byte may come, is escaped."""
    return text.encode(errors="backslashreplace").decode()


def relative_path(path: Path) -> Path:
    """Return a path as the operator would type it in this folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def plain(value: Any) -> Any:  # noqa: PLR0911  one line for each kind of value reads best
    """Return what JSON can say of a value: dataclasses and named tuples as objects, bytes as text or hex."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(item) for name, item in asdict(value).items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(item) for name, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)


def text_of(value: bytes | None) -> str:
    """Return bytes as people can read them: text where it is printable, else hex."""
    if value is None:
        return "null"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"
    return text if text.isprintable() else f"0x{value.hex()}"


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    last_is_cut: bool = False,
) -> None:
    """Print rows under named columns; numbers are right-aligned.

    `last_is_cut`: where the line is too narrow, the last column gives way, so that the others stay on one line.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = [[item if isinstance(item, Text) else cell(item) for item in row] for row in rows]
    if last_is_cut:
        shown = _last_cut(columns, shown)
    numeric = [all(_is_number(row[index]) for row in shown) and bool(shown) for index in range(len(columns))]
    table = Table(
        title=title,
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title_style="bold",
    )
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in shown:
        table.add_row(*row)
    console().print(table)


def _last_cut(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return rows whose last cell has what the others leave of the line, but never less than its title."""
    others = [max(len(value) for value in column) for column in zip(columns, *rows, strict=True)][:-1]
    room = max(len(columns[-1]), console().width - sum(others) - 2 * len(columns) - 1)
    return [
        [*row[:-1], row[-1] if len(row[-1]) <= room else f"{row[-1][: room - 1]}\N{HORIZONTAL ELLIPSIS}"]
        for row in rows
    ]


def print_records(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as a table or, where the terminal is too narrow for it, one below the other."""
    widths = [max(len(cell(value)) for value in column) for column in zip(columns, *rows, strict=True)]
    if sum(widths) + 3 * len(widths) <= console().width:
        print_table(columns, rows)
        return
    name_width = max(map(len, columns))
    for row in rows:
        for name, value in zip(columns, row, strict=True):
            say(f"[bold]{name:<{name_width}}[/bold]  {{value}}", value=value)
        say("")


def cell(value: Any) -> str:
    """Return the text of a value in a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, bytes):
        return visible(text_of(value))
    return visible(str(value))


def decimal_text(value: Decimal) -> str:
    """Return a decimal number without an exponent, and without trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def visible(text: str) -> str:
    """Return a text without markup or control sequences."""
    from rich.markup import escape

    shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    return escape(shown)


def _is_number(value: Any) -> bool:
    text = str(value).replace(",", "").lstrip("-")
    return text == "" or text.replace(".", "", 1).isdigit()


def progress(unit: str, *, quiet: bool = False) -> Progress:
    """Return a bar for long work; shown on standard error, only on a terminal, and not if `quiet`."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=err_console(),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    )
