"""What the verbs of `tidemill retention` share: their options, and sizes for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer


def moment(text: str) -> datetime:
    """Return a time as an operator types it: a date, or ISO 8601; UTC unless it says otherwise."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a valid time: write 2010-01-31 or 2010-01-31T12:00:00+00:00"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


Table = Annotated[str, typer.Argument(help="A table with a retention policy, e.g. public.market_data.")]
AnyTable = Annotated[str | None, typer.Argument(help="Only this table.")]
Time = Annotated[datetime, typer.Argument(parser=moment, metavar="TIME", help="A time in the range; UTC.")]
From = Annotated[
    datetime | None, typer.Option("--from", parser=moment, metavar="TIME", help="From this time on.")
]
To = Annotated[datetime | None, typer.Option("--to", parser=moment, metavar="TIME", help="Up to this time.")]
AsOf = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        parser=moment,
        metavar="TIME",
        help="Compute ages as of this time, without a quiet period.",
    ),
]
Generation = Annotated[int | None, typer.Option(min=1, help="The generation, if the range has several.")]
Reason = Annotated[str, typer.Option(help="The reason; it is stored.")]


def bytes_text(size: int) -> str:
    """Return a number of bytes as people read it."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
