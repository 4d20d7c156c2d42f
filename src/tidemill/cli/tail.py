"""`tidemill tail`: the records of a topic, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, plain, print_json_line, say

if TYPE_CHECKING:
    from tidemill.app.deployment import Deployment
    from tidemill.app.tailing import Shown

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
        bool, typer.Option("--from-beginning", help="Begin with the first record.")
    ] = False,
    last: Annotated[int, typer.Option(min=0, help="Begin with the last ones of each partition.")] = 0,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many records.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for more, or stop at the end.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Show the records of a topic as they come, decoded; Ctrl-C ends it.

    Only what is committed, in order within each partition; headers, and fields that are null, with --json.
    """
    from tidemill.app.run import run
    from tidemill.app.tailing import find_topic
    from tidemill.domain.lane import TopicRole

    deployment = session.deployment()
    name = find_topic(deployment, topic, TopicRole(role))
    start = None if from_beginning else last
    run(_print(deployment, name, start, count, partition, follow, as_json))


async def _print(
    deployment: Deployment,
    topic: str,
    last: int | None,
    count: int | None,
    partition: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    from contextlib import aclosing

    from tidemill.app.tailing import tail as records

    printed = 0
    async with aclosing(records(deployment, topic, last=last, partition=partition, follow=follow)) as shown:
        async for record in shown:
            print_json_line(_plain(record)) if as_json else _show(record)
            printed += 1
            if printed == count:
                return


def _plain(record: Shown) -> dict[str, object]:
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


def _show(record: Shown) -> None:
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
    told = {name: value for name, value in record.fields.items() if value is not None}
    content = json.dumps(plain(told), ensure_ascii=False)
    say(place + "  {key}  [bold]{type}[/bold]  {content}", key=record.key, type=name, content=content)
