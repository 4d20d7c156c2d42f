"""The files of a new context: a package that works as it is, and a test that passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_PROJECT: Final = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{aggregate}"
version = "1.0.0"
requires-python = ">=3.11"
dependencies = ["tidemill"]

[project.entry-points."tidemill.contexts"]
{package} = "{package}:context"
"""

_ENTITY_FIELDS: Final = '''\
"""The fields of {a_noun}: add those that yours has, each with a description."""

from pydantic import Field

from tidemill.api import Label, Message


class {name}(Message):
    """{A_noun}."""

    name: Label = Field(description="What it is called.")
    note: Label | None = Field(default=None, description="What else is worth knowing of it.")
'''

_ENTITY_CONTEXT: Final = '''\
"""{Title}: commands, events, table, rules and the read model follow from the class of fields."""

from pathlib import Path

from {package}.fields import {name}
from tidemill.api import entity, unique

{package} = entity({name}, plural="{package}", unique=(unique("name", ignore_case=True),))

context = {package}.context(
    schemas=Path(__file__).with_name("schemas"),
    migrations=Path(__file__).with_name("migrations"),
)
'''

_ENTITY_TEST: Final = """\
from {package} import context
from tidemill.api import Accepted, Rejected
from tidemill_devkit.testing import ContextInMemory, sample

create, update, delete, *_ = (spec.model for spec in context.commands)


def test_a_name_is_used_once_in_any_case():
    memory = ContextInMemory(context)
    memory.send(sample(create, {key}="1", name="First"))
    taken = memory.send(sample(create, {key}="2", name="FIRST"))
    assert isinstance(taken, Rejected)
    assert taken.code == "NAME_TAKEN"


def test_a_row_is_changed_and_deleted():
    memory = ContextInMemory(context)
    memory.send(sample(create, {key}="1", name="First", note="a note"))
    memory.send(sample(update, {key}="1", clear=["note"]))
    assert memory.state("1").note is None
    assert isinstance(memory.send(sample(delete, {key}="1")), Accepted)
    assert memory.state("1").deleted
"""

_FACT_FIELDS: Final = '''\
"""The command and the event of {title}: add the fields that yours have, each with a description."""

from datetime import datetime

from pydantic import BaseModel, Field

from tidemill.api import CommandBase, EventBase, Label, checks


class {name}(BaseModel):
    """What the command and its event share."""

    source: Label = Field(description="What it comes from; records of one source keep their order.")
    time: datetime = Field(description="When it happened.")
    value: float = Field(description="What was measured.")


class Record{name}({name}, CommandBase):
    """Record {a_noun}."""

    checks = (checks.Zoned("time"),)


class {name}Recorded({name}, EventBase):
    """{A_noun} was recorded."""
'''

_FACT_CONTEXT: Final = '''\
"""{Title}: facts in a hypertable, and the latest of each source."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from {package}.fields import {name}Recorded, Record{name}
from tidemill.api import Context, Projection, ReadModelBase, Recorded, append, fact_table, row_table

facts = fact_table("{package}", Record{name}, first="time", index=(("source", "time desc"),))


@dataclass(kw_only=True)
class Latest{name}(ReadModelBase):
    source: str
    time: datetime
    value: float


def keep_latest(row: Latest{name} | None, recorded: Recorded[{name}Recorded]) -> Latest{name}:
    event = recorded.event
    latest = Latest{name}(source=event.source, time=event.time, value=event.value)
    return row if row is not None and row.time > event.time else latest


latest = Projection(
    name="latest-{aggregate}",
    row=Latest{name},
    table=row_table("latest_{package}", Latest{name}, key="source"),
    key=lambda event: (event.source,),
    folds={{{name}Recorded: keep_latest}},
)

context = Context(
    aggregate="{aggregate}",
    key=lambda command: command.source,
    commands=(append(Record{name}, into=facts, event={name}Recorded),),
    projections=(latest,),
    schemas=Path(__file__).with_name("schemas"),
    migrations=Path(__file__).with_name("migrations"),
)
'''

_FACT_TEST: Final = """\
from datetime import timedelta

from {package} import context
from {package}.fields import Record{name}
from tidemill_devkit.testing import NOW, ContextInMemory, sample


def test_the_latest_fact_of_a_source_is_kept_whatever_comes_later():
    memory = ContextInMemory(context)
    memory.send(sample(Record{name}, source="s", time=NOW, value=2.0))
    memory.send(sample(Record{name}, source="s", time=NOW - timedelta(hours=1), value=1.0))
    ((_, row),) = memory.rows("latest-{aggregate}").items()
    assert (row.value, row.version) == (2.0, 2)
"""

_ENTITY_LINE: Final = '{{"{key}": "1", "name": "First", "note": "a note"}}\n'
_FACT_LINE: Final = '{{"source": "s-1", "time": "2026-01-01T00:00:00Z", "value": 1.5}}\n'


@dataclass(frozen=True)
class ContextNames:
    """The names of a new context: of `tide-gauges`, `TideGauge`; `package` is also its table, or its collection."""

    aggregate: str
    name: str

    @property
    def package(self) -> str:
        """Return the name of package, table and context."""
        return self.aggregate.replace("-", "_")

    @property
    def words(self) -> Mapping[str, str]:
        """Return what stands for the names in the files."""
        title = self.aggregate.replace("-", " ")
        noun = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in self.name).strip()
        article = "an" if noun[0] in "aeiou" else "a"
        return {
            "aggregate": self.aggregate,
            "package": self.package,
            "name": self.name,
            "title": title,
            "Title": title.capitalize(),
            "a_noun": f"{article} {noun}",
            "A_noun": f"{article.capitalize()} {noun}",
            "key": f"{noun.replace(' ', '_')}_id",
        }


def entity_files(names: ContextNames) -> dict[str, str]:
    """Return the files of a context that is an entity: path -> text."""
    return _files(names, _ENTITY_FIELDS, _ENTITY_CONTEXT, _ENTITY_TEST, _ENTITY_LINE)


def fact_files(names: ContextNames) -> dict[str, str]:
    """Return the files of a context of facts: path -> text."""
    return _files(names, _FACT_FIELDS, _FACT_CONTEXT, _FACT_TEST, _FACT_LINE)


def _files(names: ContextNames, *texts: str) -> dict[str, str]:
    package = names.package
    paths = (f"{package}/fields.py", f"{package}/__init__.py", f"test_{package}.py", "first.jsonl")
    templates = {"pyproject.toml": _PROJECT, **dict(zip(paths, texts, strict=True))}
    return {path: text.format_map(names.words) for path, text in templates.items()}
