"""`tidemill tail`: the records of a topic, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, plain, print_json_line, say

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tidemill.admin.records.topic_tail import RecordShown
    from tidemill.app.admin import Admin

EXAMPLES = examples(
    "tidemill tail market-data",
    "tidemill tail market-data --role outcomes --last 5",
    "tidemill tail tidemill.market-data.events.v1 --from-beginning --count 100 --json",
)
Role = Literal["commands", "events", "outcomes", "dead-letters"]


def tail(
    topic: Annotated[str, typer.Argument(help="A topic, or an aggregate (then see --role).")],
    *,
    role: Annotated[Role, typer.Option(help="Which topic of the aggregate.")] = "events",
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Start at the first record.")
    ] = False,
    last: Annotated[int, typer.Option(min=0, help="Start at the last N records of each partition.")] = 0,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this many records.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for more, or stop at the end.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Show the records of a topic as they arrive, decoded; Ctrl-C ends it.

    Only committed records, in order within each partition; --json also shows headers and null fields.
    """
    from tidemill.domain.lane import TopicRole

    start = None if from_beginning else last

    async def print_records(admin: Admin) -> None:
        name = admin.topic_tail.find(topic, TopicRole(role))
        records = admin.topic_tail.records(name, last=start, partition=partition, follow=follow)
        await _print(records, count, as_json)

    session.ask(print_records)


async def _print(records: AsyncGenerator[RecordShown], count: int | None, as_json: bool) -> None:
    from contextlib import aclosing

    printed = 0
    async with aclosing(records) as shown:
        async for record in shown:
            print_json_line(_plain(record)) if as_json else _show(record)
            printed += 1
            if printed == count:
                return


def _plain(record: RecordShown) -> dict[str, object]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": record.time,
        "key": record.key,
        "type": record.type,
        "sequence": record.sequence,
        "headers": dict(record.headers),
        "value": record.fields,
        "problem": record.problem,
    }


def _show(record: RecordShown) -> None:
    import json

    number = "" if record.sequence is None else f"  #{record.sequence}"
    place = f"[dim]{record.partition}@{record.offset}  {record.time:%Y-%m-%d %H:%M:%S}[/dim]{number}"
    name = (record.type or "").rpartition(".")[2] or "?"
    if record.fields is None or record.problem is not None:
        say(
            place + "  {key}  [bold]{type}[/bold]  [red]{problem}[/red]",
            key=record.key,
            type=name,
            problem=record.problem,
        )
        return
    fields = {name: value for name, value in record.fields.items() if value is not None}
    content = json.dumps(plain(fields), ensure_ascii=False)
    say(place + "  {key}  [bold]{type}[/bold]  {content}", key=record.key, type=name, content=content)
