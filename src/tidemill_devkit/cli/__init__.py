"""The verbs that the devkit adds to the program."""

from __future__ import annotations

import typer

from tidemill_devkit.cli import conformance, demo, dev


def add_verbs(program: typer.Typer, retention: typer.Typer) -> None:
    """Add `dev` and `demo` to the program, `conformance` to its verbs of retention."""
    program.add_typer(dev.app, name="dev", rich_help_panel="Prepare")
    program.command("demo", rich_help_panel="See it work", epilog=demo.EXAMPLES)(demo.demo)
    retention.add_typer(conformance.app)
