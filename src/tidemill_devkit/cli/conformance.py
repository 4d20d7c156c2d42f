"""`tidemill retention conformance`: tests any archiver over Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, err_console, examples, note, print_json, print_table, say

if TYPE_CHECKING:
    from tidemill_devkit.archiver_conformance.run import CaseResult, ConformanceReport, Invitation

app = typer.Typer()

_PREFIX = "tidemill-conformance"
_COLOURS = {"passed": "green", "failed": "red", "not tried": "yellow"}


@app.command(
    epilog=examples(
        "tidemill retention conformance",
        "tidemill retention conformance --timeout 300 --json > report.json",
    )
)
def conformance(
    prefix: Annotated[
        str,
        typer.Option(
            metavar="PREFIX", help="Prefix of the topics and the database that are created and deleted."
        ),
    ] = _PREFIX,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for each answer.")] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Test an archiver: send requests, and read its copies back, as retention does.

    Creates a database and topics on this deployment's servers, prints their names,
    and sends requests to the archiver that listens there; both are deleted at the end.
    Copies stay where the archiver put them.
    Needs the login that migrates, and the right to create databases. Exits 1 unless every case passes.
    """
    from tidemill.app.run import run
    from tidemill_devkit.archiver_conformance.run import run_conformance

    with err_console().status("creating a database and topics") as status:

        def on_ready(invitation: Invitation) -> None:
            _invite(invitation)
            status.update(f"waiting up to {timeout:g} s for each answer")

        report = run(
            run_conformance(
                session.deployment(),
                prefix=prefix,
                within_s=timeout,
                on_ready=on_ready,
                on_result=_tell,
            )
        )
    if as_json:
        print_json({"conforms": report.conforms, **_plain(report)})
    else:
        _show(report)
    if not report.conforms:
        raise typer.Exit(1)


def _invite(invitation: Invitation) -> None:
    note("Start the archiver, or let a running one also listen here:")
    shown = {
        "requests": invitation.events,
        "answers": invitation.confirmations,
        "database": f"{invitation.database}, by a login that is a member of tidemill_archiver",
        "ours": f"TIDEMILL_TOPICS_PREFIX={invitation.prefix} TIDEMILL_DATABASE_ARCHIVER_URL=.../"
        f"{invitation.database} tidemill serve archiver",
    }
    for name, value in shown.items():
        note("  [bold]{name}[/bold] {value}", name=f"{name:<8}", value=value)


def _tell(case_result: CaseResult) -> None:
    colour = _COLOURS[case_result.result]
    text = f"[{colour}]{{result}}[/{colour}] {{case}} [dim]{{seconds}}[/dim]"
    note(
        text, result=f"{case_result.result:<9}", case=case_result.case, seconds=f"{case_result.seconds:.1f} s"
    )


def _plain(report: ConformanceReport) -> dict[str, object]:
    return {"archiver": report.archiver, "table": report.table, "cases": report.case_results}


def _show(report: ConformanceReport) -> None:
    rows = [
        (
            each.case,
            each.about,
            each.result,
            "; ".join([*([each.why] if each.why else []), *each.notes]) or None,
        )
        for each in report.case_results
    ]
    print_table(
        ("case", "what", "result", "why"), rows, title=f"Archiver {report.archiver or 'without a name'}"
    )
    passed = sum(each.result == "passed" for each in report.case_results)
    if report.conforms:
        say("[green]It conforms:[/green] {passed} of {all} cases passed.", passed=passed, all=len(rows))
    else:
        say("[red]It does not conform:[/red] {passed} of {all} cases passed.", passed=passed, all=len(rows))
