"""`tidemill publish`: commands by hand, from lines of JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json_line, print_table, progress, say

if TYPE_CHECKING:
    from rich.progress import Progress

    from tidemill.admin.records.command_lines import Line, LineReader
    from tidemill.admin.records.publish import Answer, Publication

EXAMPLES = examples(
    "tidemill publish RecordMarketData ticks.jsonl --wait",
    """echo '{"symbol": "ACME", "time": "2013-02-01T00:00:00Z", "price": 45, "source": "me"}' |""",
    "  tidemill publish RecordMarketData - --wait",
)
_MAX_SHOWN = 20


def publish(
    command: Annotated[str, typer.Argument(help="A command, e.g. RecordMarketData.")],
    file: Annotated[
        str, typer.Argument(help="A file with one JSON object per line, or - for standard input.")
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the outcome of each command.")] = False,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Seconds to wait after the last one was sent; another process takes over lanes within 30.",
        ),
    ] = 45.0,
    key: Annotated[str | None, typer.Option(help="The record key, instead of each command's own.")] = None,
    service: Annotated[
        str, typer.Option(help="service_name of lines that have none; ids are unique within it.")
    ] = "tidemill-publish",
    as_json: AsJson = False,
) -> None:
    """Publish commands, one per line of FILE, in order.

    Every line is checked before the first one is sent.
    Key, partition, timestamp and service_name are filled in where a line has none.
    So is the command_id, made from the line: the same file sent again changes nothing.
    With --wait it exits 1 if one was rejected.
    """
    from tidemill.admin.records.publish import PublishRequest

    wait_s = timeout if wait else None
    request = PublishRequest(command, _lines(file), service, key=key, wait_s=wait_s)
    with progress("records", quiet=as_json) as shown:
        listener = _Shown(shown, wait_s=wait_s, quiet=as_json)
        publication = session.ask(lambda admin: admin.publisher.publish(request, listener))
    if as_json:
        for answer in publication.answers:
            print_json_line(answer)
    else:
        _show(publication, wait)
    _judge(publication, wait)


class _Shown:
    """Bars on a terminal; everywhere a line that says what is waited for."""

    def __init__(self, bars: Progress, *, wait_s: float | None, quiet: bool) -> None:
        self._bars = bars
        self._sent = bars.add_task("sent", total=None)
        self._answered = bars.add_task("answered", total=None, visible=wait_s is not None)
        self._wait_s, self._quiet = wait_s, quiet

    def sending(self, records: int, outcomes: int) -> None:
        self._bars.update(self._sent, completed=records)
        self._bars.update(self._answered, completed=min(outcomes, records))

    def waiting(self, records: int, outcomes: int) -> None:
        self._bars.update(self._answered, completed=outcomes, total=records)
        if not self._quiet:
            self._quiet = True
            limit = f"{self._wait_s:g} s at most"
            self._bars.console.print(f"sent {_commands(records)}; waiting for their outcomes, {limit}")


def _lines(file: str) -> Callable[[LineReader], Iterator[Line]]:
    """Return what reads the file; it is read twice, so that an invalid line is found before the first one is sent."""
    if file == "-":
        return lambda reader: reader.read(sys.stdin, "standard input")
    path = Path(file)

    def read(reader: LineReader) -> Iterator[Line]:
        from tidemill.domain.errors import UsageError

        try:
            with path.open(encoding="utf-8") as lines:
                for _ in reader.fresh().read(lines, file):
                    pass
                lines.seek(0)
                yield from reader.read(lines, file)
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from error

    return read


def _commands(count: int) -> str:
    return f"{count:,} command{'' if count == 1 else 's'}"


def _show(publication: Publication, wait: bool) -> None:
    if not wait:
        say(
            "sent {commands} to {topic}",
            commands=_commands(len(publication.answers)),
            topic=publication.topic,
        )
        note("To see their outcomes: add --wait, or tidemill tail AGGREGATE --role outcomes")
        return
    few = len(publication.answers) <= _MAX_SHOWN
    chosen = [answer for answer in publication.answers if few or answer.outcome != "applied"]
    for answer in chosen[:_MAX_SHOWN]:
        _show_answer(answer)
    if len(chosen) > _MAX_SHOWN:
        note(f"... and {len(chosen) - _MAX_SHOWN:,} more; all of them with --json")
    print_table(("outcome", "commands"), sorted(publication.counts.items()))


def _show_answer(answer: Answer) -> None:
    waiting = answer.outcome is None
    colour = "red" if answer.refused else "yellow" if waiting or answer.original else "green"
    first = f" of one that was {answer.original}" if answer.original else ""
    why = "  {code}: {message}" if answer.code else ""
    say(
        f"line {{line}}  [{colour}]{{outcome}}{first}[/{colour}]  {{id}}  at {answer.partition}@{answer.offset}{why}",
        line=answer.line,
        outcome=answer.outcome or "no outcome yet",
        id=answer.command_id,
        code=answer.code,
        message=answer.message,
    )


def _judge(publication: Publication, wait: bool) -> None:
    if not wait:
        return
    missing = sum(answer.outcome is None for answer in publication.answers)
    if missing:
        note(
            f"[yellow]{missing:,} outcomes did not come in time[/yellow]: is `tidemill serve commands` running, and "
            "was it started after the context was installed? See `tidemill status`"
        )
        note("You may send the same file again: each command is applied once.")
    if missing or any(answer.refused for answer in publication.answers):
        raise typer.Exit(1)
