"""`tidemill principals`: who may do what over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, say
from tidemill.domain.errors import UsageError

if TYPE_CHECKING:
    from tidemill.admin.principals import IssuedToken, PrincipalShown

app = typer.Typer(
    help="Who may do what over HTTP: services and people, what they are granted, their tokens. Nothing is allowed that "
    "is not granted. Changes need the login that migrates, and are in force within 5 s in every process.",
    no_args_is_help=True,
)

_ID = 10
"""Characters of an id: a whole token that is typed in its place must not reach the journal."""

Name = Annotated[str, typer.Argument(help="The principal; of a service, the service_name of what it sends.")]


@app.command(
    epilog=examples(
        "tidemill principals add billing --service",
        "tidemill principals add ann --person --subject auth0|5f2a",
        "tidemill principals add billing --service --reinstate",
    )
)
def add(
    name: Name,
    service: Annotated[bool, typer.Option("--service", help="It is a service.")] = False,
    person: Annotated[bool, typer.Option("--person", help="It is a person.")] = False,
    subject: Annotated[str | None, typer.Option(help="What JWTs call it, if that is not its name.")] = None,
    reinstate: Annotated[
        bool, typer.Option("--reinstate", help="Take a revoked one back, without its grants and tokens.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add a service or person, which may do nothing yet. The first one ends the development principal."""
    from tidemill.admin.principal_checks import check_name, check_subject
    from tidemill.security.principals import PrincipalKind

    check_name(name)
    check_subject(subject)
    if service == person:
        raise UsageError("say what it is: --service or --person")
    kind = PrincipalKind.SERVICE if service else PrincipalKind.PERSON
    entry = session.act(
        "principals add",
        lambda admin: admin.principals.add(name, kind, subject=subject, reinstate=reinstate),
        name=name,
        kind=kind,
        subject=subject,
        reinstate=reinstate,
    )
    if as_json:
        print_json(entry)
        return
    say("{name} is added, and may do nothing yet.", name=name)
    note("Next: tidemill principals grant {name} COLLECTION --verbs read", name=name)


@app.command(
    epilog=examples(
        "tidemill principals grant billing market-data --verbs read,create",
        "tidemill principals grant ann users --verbs read --hide email --hide username",
        "tidemill principals grant ops '*' --verbs read,operate",
    )
)
def grant(
    name: Name,
    collection: Annotated[
        str, typer.Argument(help="The collection; '*' is every one that it has no grant of its own for.")
    ],
    verbs: Annotated[
        str, typer.Option(help="Of read, create, update, delete and, on '*', operate; separated by commas.")
    ],
    hide: Annotated[
        list[str] | None, typer.Option(help="A column that then does not exist for it; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set what it may do with a collection, instead of what it might before. A grant takes the place of that on '*'."""
    from tidemill.admin.principal_checks import checked_verbs

    chosen = checked_verbs(collection, verbs.split(","))  # before anything is asked of a server
    entry = session.act(
        "principals grant",
        lambda admin: admin.principals.grant(name, collection, chosen, hide or ()),
        name=name,
        collection=collection,
        verbs=verbs,
        hidden=",".join(hide or ()),
    )
    if as_json:
        print_json(entry)
        return
    after = entry.after or {}
    text = "{name} may {verbs} {collection}" + (", without {hidden}." if after["hidden"] else ".")
    say(
        text,
        name=name,
        verbs=", ".join(after["verbs"]),
        collection=collection,
        hidden=", ".join(after["hidden"]),
    )


@app.command(
    epilog=examples("tidemill principals revoke billing market-data", "tidemill principals revoke billing")
)
def revoke(
    name: Name,
    collection: Annotated[str | None, typer.Argument(help="Only this grant.")] = None,
    as_json: AsJson = False,
) -> None:
    """End one grant; or, without a collection, the principal with all of its grants and tokens."""
    entry = session.act(
        "principals revoke",
        lambda admin: admin.principals.revoke(name, collection),
        name=name,
        collection=collection,
    )
    if as_json:
        print_json(entry)
    elif collection is None:
        say("{name} is revoked: within 5 s nothing is accepted from it.", name=name)
    else:
        say("{name} has no grant of its own for {collection} any more.", name=name, collection=collection)
        note("What is granted to it on '*', if anything, counts for the collection now.")


@app.command(
    epilog=examples(
        "tidemill principals token billing",
        "tidemill principals token billing --rotate --overlap-hours 48",
        "tidemill principals token --revoke 0v7c1m9x2a",
    )
)
def token(
    name: Annotated[str | None, typer.Argument(help="The principal that gets a new token.")] = None,
    expires_days: Annotated[float, typer.Option(help="After how many days it ends.")] = 90.0,
    label: Annotated[str, typer.Option(help="What it is for, for lists.")] = "",
    rotate: Annotated[
        bool, typer.Option("--rotate", help="End its older tokens; with --label, those with this label.")
    ] = False,
    overlap_hours: Annotated[float, typer.Option(help="After how many hours --rotate ends them.")] = 24.0,
    revoke_id: Annotated[
        str | None, typer.Option("--revoke", metavar="ID", help="End the token with this id now instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, once: only its hash is stored. Or end one with --revoke."""
    if (name is None) == (revoke_id is None):
        raise UsageError("name the principal that gets a token, or the token to end: --revoke ID")
    if revoke_id is not None:
        _revoke_token(revoke_id, as_json)
        return
    from tidemill.admin.principal_checks import check_label, check_times

    check_times(expires_days, overlap_hours)
    check_label(label)
    issued = session.act(
        "principals token",
        lambda admin: admin.principals.issue_token(
            name or "", expires_days=expires_days, label=label, rotate=rotate, overlap_hours=overlap_hours
        ),
        name=name,
        label=label,
        rotate=rotate,
        expires_days=f"{expires_days:g}",
        overlap_hours=f"{overlap_hours:g}" if rotate else None,
    )
    if as_json:
        print_json(issued)
    else:
        _show_issued(issued)


def _revoke_token(token_id: str, as_json: bool) -> None:
    entry = session.act(
        "principals token", lambda admin: admin.principals.revoke_token(token_id), id=token_id[:_ID]
    )
    if as_json:
        print_json(entry)
    else:
        say("Token {id} of {name} is revoked.", id=token_id, name=entry.principal)


def _show_issued(issued: IssuedToken) -> None:
    typer.echo(issued.token)
    note("It is shown this once, and ends at {at} UTC. Its id is {id}.", at=issued.expires_at, id=issued.id)
    for token_id, at in issued.ending.items():
        note("Token {id} ends at {at} UTC.", id=token_id, at=at)


@app.command(name="list", epilog=examples("tidemill principals list", "tidemill principals list --json"))
def list_(as_json: AsJson = False) -> None:
    """List every principal, revoked ones too, with the number of its grants and of its tokens in force."""
    rows = session.ask(lambda admin: admin.principal_overview.summaries())
    if as_json:
        print_json(rows)
        return
    shown = [(row.name, row.kind, row.grants, row.tokens, row.expires_at, row.revoked_at) for row in rows]
    print_table(("principal", "kind", "grants", "tokens", "last one ends", "revoked"), shown)
    if not rows:
        note(
            "There is none: on loopback every request is from the development principal, which may do everything."
        )


@app.command(epilog=examples("tidemill principals show billing", "tidemill principals show billing --json"))
def show(name: Name, as_json: AsJson = False) -> None:
    """Show what a principal may do, and its tokens by id."""
    shown = session.ask(lambda admin: admin.principal_overview.show(name))
    if as_json:
        print_json(shown)
    else:
        _show(shown)


def _show(shown: PrincipalShown) -> None:
    say("[bold]{name}[/bold]  {kind}", name=shown.name, kind=shown.kind)
    if shown.subject is not None:
        say("JWTs call it {subject}", subject=shown.subject)
    if shown.revoked_at is not None:
        say("[red]revoked[/red] at {at} UTC", at=shown.revoked_at)
    grants = [(row.collection, ", ".join(row.verbs), ", ".join(row.hidden)) for row in shown.grants]
    print_table(("collection", "verbs", "hidden"), grants, title="Grants")
    columns = ("id", "label", "last_characters", "created_at", "expires_at", "revoked_at")
    tokens = [[row[column] for column in columns] for row in shown.tokens]
    print_table(("id", "label", "ends with", "made", "ends", "revoked"), tokens, title="Tokens")
