"""What a context's files lack is named, and drafted into the folder that a person works in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, Table

from tidemill.admin.setup.schema_drafts import check, draft_missing_schemas, draft_schemas
from tidemill.admin.setup.schema_releases import release, unreleased
from tidemill.app.admin import Admin
from tidemill.app.deployment import Deployment
from tidemill.domain.context import Context, append
from tidemill.domain.errors import ContractError, UsageError
from tidemill.domain.messages import CommandBase, EventBase, Label
from tidemill.settings import Settings


class CountTide(CommandBase):
    """Count a tide."""

    place: Label


class TideCounted(EventBase):
    """A tide was counted."""

    place: Label


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return deployment_in(tmp_path)


def deployment_in(folder: Path) -> Deployment:
    context = Context(
        aggregate="tide-counts",
        key=lambda command: command.place,
        commands=(append(CountTide, into=Table("tides", MetaData()), event=TideCounted),),
        schemas=folder / "schemas",
        migrations=folder / "migrations",
    )
    return Deployment.of(Settings(), (context,))


@pytest.fixture
def change(deployment: Deployment, tmp_path: Path) -> Callable[[Callable[[Any], None]], None]:
    """Drafts both schemas, and changes that of the command."""
    path, _ = draft_schemas(deployment.catalog, ["CountTide", "TideCounted"])

    def change(how: Callable[[Any], None]) -> None:
        document = json.loads(path.read_text())
        for field in document["fields"]:
            field["doc"] = field["doc"] or "What it is."
        how(document)
        path.write_text(json.dumps(document))

    return change


def findings(deployment: Deployment) -> set[tuple[str, str]]:
    return {(finding.path.rpartition("/")[2], finding.code) for finding in check(deployment.catalog)}


def test_a_message_without_schema_is_missed_and_drafted(deployment: Deployment, tmp_path: Path) -> None:
    assert findings(deployment) == {("CountTide.avsc", "MISSING"), ("TideCounted.avsc", "MISSING")}
    assert any("`tidemill schemas new CountTide`" in finding.message for finding in check(deployment.catalog))
    drafted = draft_schemas(deployment.catalog, ["CountTide", "TideCounted"])
    assert drafted == [
        tmp_path / "schemas" / "tide_counts" / "commands" / "CountTide.avsc",
        tmp_path / "schemas" / "tide_counts" / "events" / "TideCounted.avsc",
    ]
    assert findings(deployment) == {("CountTide.avsc", "UNDOCUMENTED"), ("TideCounted.avsc", "UNDOCUMENTED")}


def test_one_that_cannot_be_drafted_leaves_none(deployment: Deployment, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no context declares CountEbb: .* there are CountTide, TideCounted"
    ):
        draft_schemas(deployment.catalog, ["CountTide", "CountEbb"])
    assert not (tmp_path / "schemas").exists()
    draft_schemas(deployment.catalog, ["CountTide"])
    with pytest.raises(UsageError, match="exists: change it by hand"):
        draft_schemas(deployment.catalog, ["TideCounted", "CountTide"])
    assert findings(deployment) == {("CountTide.avsc", "UNDOCUMENTED"), ("TideCounted.avsc", "MISSING")}


def test_all_that_a_context_lacks_is_drafted_and_the_rest_left_alone(deployment: Deployment) -> None:
    part = deployment.catalog.of("tide-counts")
    (path,) = draft_schemas(deployment.catalog, ["CountTide"])
    path.write_text("written by hand")
    drafted = draft_missing_schemas(part)
    assert [written.name for written in drafted.written] == ["TideCounted.avsc"]
    assert list(drafted.kept) == [path]
    assert path.read_text() == "written by hand"
    assert draft_missing_schemas(part).written == []


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (lambda document: document["fields"][-1].update(type="long"), "the class says"),
        (lambda document: document["fields"].pop(), "the class has the fields"),
        (lambda document: document.update(namespace="else.where"), "the schema is of else.where.CountTide"),
    ],
    ids=["type", "fields", "namespace"],
)
def test_a_class_that_moved_on_is_named(
    deployment: Deployment, change: Callable[[Any], None], how: Callable[[Any], None], says: str
) -> None:
    change(how)
    [finding] = [finding for finding in check(deployment.catalog) if finding.path.endswith("CountTide.avsc")]
    assert finding.code == "OUT_OF_STEP"
    assert says in finding.message


def test_what_is_no_schema_is_named_once(deployment: Deployment, tmp_path: Path) -> None:
    path, _ = draft_schemas(deployment.catalog, ["CountTide", "TideCounted"])
    path.write_text("{")
    assert {each for each in findings(deployment) if each[0] == path.name} == {("CountTide.avsc", "NOT_AVRO")}


def test_a_revision_is_begun_in_the_contexts_folder(deployment: Deployment, tmp_path: Path) -> None:
    path = Admin(deployment).migrations.draft("tide-counts", "Count the tides")
    assert path == tmp_path / "migrations" / "0001_count_the_tides.py"
    assert "revision = 'tide_counts_0001'" in path.read_text()


async def test_a_first_revision_is_drafted_without_a_server(deployment: Deployment, tmp_path: Path) -> None:
    drafted = await Admin(deployment).migrations.tables.draft("tide-counts")
    assert drafted is not None
    assert drafted.path == tmp_path / "migrations" / "0001_create_the_tables.py"
    assert not drafted.path.exists(), "it is written when that is asked for"
    drafted.write()
    assert "create table public.tides" in drafted.path.read_text()
    with pytest.raises(UsageError, match="there is no aggregate 'ebbs'"):
        await Admin(deployment).migrations.tables.draft("ebbs")


async def test_no_revision_is_written_among_installed_packages(tmp_path: Path) -> None:
    installed = deployment_in(tmp_path / "lib" / "site-packages" / "tide_counts")
    drafted = await Admin(installed).migrations.tables.draft("tide-counts")
    assert drafted is not None
    with pytest.raises(UsageError, match="pip install --editable"):
        drafted.write()
    assert not drafted.path.exists()


def test_nothing_is_drafted_among_installed_packages(tmp_path: Path) -> None:
    installed = deployment_in(tmp_path / "lib" / "site-packages" / "tide_counts")
    with pytest.raises(UsageError, match="pip install --editable"):
        draft_schemas(installed.catalog, ["CountTide"])
    with pytest.raises(UsageError, match="pip install --editable"):
        draft_missing_schemas(installed.catalog.of("tide-counts"))
    with pytest.raises(UsageError, match="pip install --editable"):
        Admin(installed).migrations.draft("tide-counts", "Count the tides")
    assert list(tmp_path.rglob("*")) == []


def test_what_others_use_is_released_once_and_compared_with(
    deployment: Deployment, change: Callable[[Callable[[Any], None]], None], tmp_path: Path
) -> None:
    part = deployment.catalog.of("tide-counts")
    with pytest.raises(ContractError, match=r"UNDOCUMENTED.*nothing was released"):
        release(part)
    for path in (tmp_path / "schemas").rglob("*.avsc"):
        path.write_text(path.read_text().replace('"doc": ""', '"doc": "What it is."'))
    assert findings(deployment) == set()
    assert unreleased(deployment.catalog) == ["tide_counts"]
    released = release(part)
    folder = tmp_path / "schemas" / "released" / "tide_counts"
    assert set(released.written) == {folder / "CountTide" / "v1.avsc", folder / "TideCounted" / "v1.avsc"}
    current = tmp_path / "schemas" / "tide_counts" / "commands" / "CountTide.avsc"
    assert (folder / "CountTide" / "v1.avsc").read_bytes() == current.read_bytes()
    assert unreleased(deployment.catalog) == []
    assert release(part).written == []

    change(lambda document: document["fields"][-1].update(name="where"))
    assert ("CountTide.avsc", "INCOMPATIBLE") in findings(deployment), "a renamed field is seen now"
    with pytest.raises(ContractError, match="nothing was released"):
        release(part)
    note = {"name": "note", "type": ["null", "string"], "default": None, "doc": "A note."}
    current.write_text((folder / "CountTide" / "v1.avsc").read_text())
    change(lambda document: document["fields"].append(note))
    assert release(part).written == [folder / "CountTide" / "v2.avsc"]
