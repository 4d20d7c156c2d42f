"""The plan's part about a family: an analysis of penguins, its files, and the user who asked for it.

The user is another aggregate, whose lanes have no order with these. A client that refers to a user waits until it is
there; so does the feed.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from itertools import count
from statistics import fmean
from typing import Any, Final

from tidemill.api import hash_password
from tidemill.contexts.data_analyses import analysis_files, data_analyses
from tidemill.contexts.users import users
from tidemill.domain.messages import CommandBase
from tidemill_devkit.demo.records import Planned, applied, rejected
from tidemill_devkit.demo.samples import sample_file

DATA_ANALYSES: Final = "data-analyses"
USERS: Final = "users"
SERVICE: Final = "workbench"
USER: Final = "ada"
PASSWORD: Final = "a real one is typed by nobody else"  # noqa: S105  of a run that ends with its database
ANALYSIS: Final = "mass-of-penguins"
FILES: Final = {"penguins.csv": "text/csv", "mass.json": "application/json"}
"""The files of the analysis at the end: name -> type."""

_FILE: Final = "penguins.csv"
_NOT_KNOWN: Final = ""


@cache
def mass_by_species() -> dict[str, float]:
    """Return the mean mass of each species in grams, from the file."""
    masses: dict[str, list[float]] = defaultdict(list)
    with sample_file(_FILE).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["body_mass_g"] != _NOT_KNOWN:
                masses[row["species"]].append(float(row["body_mass_g"]))
    return {species: round(fmean(grams), 3) for species, grams in sorted(masses.items())}


def mass_by_pandas() -> dict[str, float]:
    """Return what pandas computes from the file."""
    import pandas as pd  # noqa: PLC0415  half a second, which only the proof pays

    means = pd.read_csv(sample_file(_FILE)).groupby("species")["body_mass_g"].mean()
    return {str(species): round(float(mean), 3) for species, mean in means.items()}


def user_records(now: datetime) -> list[Planned]:
    """Return the records about users. `now`: the timestamp of the commands."""
    return list(_Story(now).users())


def analysis_records(now: datetime) -> list[Planned]:
    """Return the records about the analysis, in order, to be sent when the user is there."""
    return list(_Story(now).analyses())


class _Story:
    def __init__(self, now: datetime) -> None:
        self._now = now
        self._numbers = count(1)

    def users(self) -> Iterator[Planned]:
        """Yield a user, whose password is hashed here and encrypted where it arrives."""
        fields = {"username": "Ada", "email": "ada@example.com", "hashed_password": hash_password(PASSWORD)}
        created = self._command(users.messages.create, f"user-{USER}", user_id=USER, **fields)
        yield applied(USERS, created)
        yield applied(USERS, created).again()

    def analyses(self) -> Iterator[Planned]:
        """Yield the life of an analysis, as a program leads it that forgets a step now and then."""
        own = data_analyses.messages
        named = {"name": "Mass of penguins", "kind": "mean by group"}
        yield rejected(DATA_ANALYSES, self._analysis(own.create, user_id="nobody", **named), "NO_USER")
        yield self._file("penguins.csv", sample_file(_FILE).read_bytes(), refused="NO_DATA_ANALYSIS")
        yield applied(DATA_ANALYSES, self._analysis(own.create, user_id=USER, **named))
        yield applied(DATA_ANALYSES, self._analysis(_step("Start")))
        yield self._file("penguins.csv", sample_file(_FILE).read_bytes())
        yield self._file("penguins.csv", b"another one", refused="FILENAME_TAKEN")
        result = json.dumps(mass_by_species())
        yield self._file("mass.json", result.encode())
        yield applied(DATA_ANALYSES, self._analysis(_step("Complete"), result=result))
        failed = self._analysis(_step("Fail"), error="out of fish")
        yield rejected(DATA_ANALYSES, failed, "WRONG_STATUS")

    def _file(self, filename: str, content: bytes, *, refused: str | None = None) -> Planned:
        number = next(self._numbers)
        command = self._command(
            analysis_files.messages.create,
            f"file-{number}",
            data_analysis_id=ANALYSIS,
            analysis_file_id=f"{ANALYSIS}-{number}",
            filename=filename,
            file_type=FILES[filename],
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            location=f"https://files.example/{ANALYSIS}/{filename}",
        )
        if refused is None:
            return applied(DATA_ANALYSES, command)
        return rejected(DATA_ANALYSES, command, refused)

    def _analysis(self, model: type[CommandBase], **fields: Any) -> CommandBase:
        return self._command(model, f"analysis-{next(self._numbers)}", data_analysis_id=ANALYSIS, **fields)

    def _command(self, model: type[CommandBase], command_id: str, **fields: Any) -> CommandBase:
        base = {"command_id": command_id, "service_name": SERVICE, "timestamp": self._now}
        return model.model_validate(base | fields)


def _step(verb: str) -> type[CommandBase]:
    """Return the command of a step of an analysis's life."""
    return next(command for step, command, _ in data_analyses.messages.steps if step.verb == verb)
