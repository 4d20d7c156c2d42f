"""`tidemill verify-password`: whether a password is the one of an account."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, print_json, say
from tidemill.domain.errors import UsageError

EXAMPLES = examples(
    "tidemill verify-password users ann", "tidemill verify-password users ann --json < password.txt"
)


def verify_password(
    collection: Annotated[
        str,
        typer.Argument(help="The collection of the accounts, such as users; its context declares sign_in=."),
    ],
    name: Annotated[str, typer.Argument(help="What the account signs in with, in any case.")],
    as_json: AsJson = False,
) -> None:
    """Say whether a password is the one of an account: accepted, or refused; exits 1 if it is refused.

    The password is asked for and not shown. Without a terminal it is read from standard input, to its end and without
    its last line break. It is never an argument, since other users of a machine see these.

    A wrong password, an unknown name and an account that is not active are refused alike. It needs
    TIDEMILL_SECRET_KEYS, as whatever opens secrets does.
    """
    password = _password()
    answer = session.ask(lambda admin: admin.passwords.verify(collection, name, password))
    if as_json:
        print_json({"outcome": answer.outcome, "key": answer.key})
    else:
        say("{outcome}", outcome=answer.outcome)
    if answer.key is None:
        raise typer.Exit(1)


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, default="", show_default=False, err=True))
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError:
        raise UsageError("the password on standard input is not UTF-8") from None
