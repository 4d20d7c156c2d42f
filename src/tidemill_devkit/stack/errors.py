"""Errors of starting the servers, each with the next step."""

from collections.abc import Sequence
from pathlib import Path


class DevstackError(Exception):
    """The stack cannot be brought up, reached or taken down."""


class MissingPrerequisiteError(DevstackError):
    """Something that the native way needs is absent; `missing` names every such thing."""

    def __init__(self, missing: Sequence[str], choices: Sequence[str]) -> None:
        self.missing = tuple(missing)
        self.choices = tuple(choices)
        lines = ["the servers cannot be started on this machine:"]
        lines += [f"  - {item}" for item in missing]
        lines += ["what you can do:"]
        lines += [f"  - {choice}" for choice in choices]
        super().__init__("\n".join(lines))


class CommandFailedError(DevstackError):
    """A program that sets something up ended with an error; `log` holds all it printed."""

    def __init__(self, what: str, exit_code: int, log: Path, tail: Sequence[str]) -> None:
        self.what = what
        self.exit_code = exit_code
        self.log = log
        printed = "\n".join(f"    {line}" for line in tail)
        super().__init__(
            f"{what} failed (exit code {exit_code}); run the same command again to retry. "
            f"Everything it printed is in {log}; the last lines:\n{printed}"
        )


class ServerFailedError(DevstackError):
    """A server died or did not answer in time; `log` is its own log."""

    def __init__(self, server: str, problem: str, log: Path, tail: Sequence[str]) -> None:
        self.server = server
        self.log = log
        printed = "\n".join(f"    {line}" for line in tail)
        super().__init__(f"{server} {problem}; its log is {log}, the last lines:\n{printed}")


class NotOwnedError(DevstackError):
    """A test tried to break a server that devstack does not own."""

    def __init__(self, server: str) -> None:
        self.server = server
        super().__init__(
            f"{server} was given by the environment: only servers that devstack started itself "
            "may be stopped, killed or frozen. Unset the variables that give servers."
        )
