"""`tidemill topics`: create the topics with all their settings, and check the settings."""

from __future__ import annotations

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, say

app = typer.Typer(help="Create topics and record their lanes; check their settings.", no_args_is_help=True)


@app.command(epilog=examples("tidemill topics create", "TIDEMILL_TOPICS_PARTITIONS=4 tidemill topics create"))
def create(as_json: AsJson = False) -> None:
    """Create every topic with all its settings, and record its lanes in the database.

    Existing topics are not changed, except that a max.message.bytes below what is needed is raised.
    """
    prepared = session.ask(lambda admin: admin.topic_setup.create())
    if as_json:
        print_json(prepared)
        return
    rows = [(each.aggregate, each.partitions, len(each.new_topics), each.new_lanes) for each in prepared]
    print_table(("aggregate", "lanes", "new topics", "new lanes"), rows)
    for limit in (limit for each in prepared for limit in each.raised):
        note(f"{limit.topic}: raised {limit.setting} from {limit.found} to {limit.wanted}")
    for finding in (finding for each in prepared for finding in each.findings):
        note(f"[yellow]{finding}[/yellow]")
    note("Next: tidemill serve all")
    if {True, False} == {stream.new_lanes > 0 for stream in prepared}:
        note("A process that runs already serves the new lanes once it is restarted.")


@app.command(epilog=examples("tidemill topics check", "tidemill topics check --json"))
def check(as_json: AsJson = False) -> None:
    """Compare every topic with its expected settings; exits 1 if records could be lost or lanes cannot work."""
    findings = session.ask(lambda admin: admin.topic_check.check())
    if as_json:
        print_json(findings)
    elif not findings:
        say("Every topic is as it should be.")
    for finding in [] if as_json else findings:
        colour = "red" if finding.vital else "yellow"
        say(f"[{colour}]{finding}[/{colour}]")
    if any(finding.vital for finding in findings):
        raise typer.Exit(1)
