"""What follows from the declaration of an entity, and what a declaration may not say."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import Field, StringConstraints, ValidationError, create_model

from tests.support.engine.entity_contexts import (
    ACCOUNTS,
    FOLDERS,
    JOBS,
    NOTES,
    Account,
    Commands,
    Job,
    accounts,
    files,
    folders,
    items,
    jobs,
    notes,
)
from tidemill.api import Accepted, ContractError, Label, Message, Rejected, SignInColumns
from tidemill.api.entities.declaration import entity, family
from tidemill.api.entities.options import Life, refers, step, unique
from tidemill.api.indexes import gin, member
from tidemill.catalog.drafts import draft_schema
from tidemill.domain.messages import BASE_FIELDS
from tidemill_devkit.testing import NOW, ContextInMemory

account, job, folder, file = Commands(accounts), Commands(jobs), Commands(folders), Commands(files)


def own_fields(model: type[Message]) -> list[str]:
    return [name for name in model.model_fields if name not in BASE_FIELDS]


def code(decision: Any) -> str:
    return decision.code if isinstance(decision, Rejected) else "accepted"


note = Commands(notes)


# --- what follows ---


def test_a_class_of_fields_gives_commands_events_and_a_table() -> None:
    made = {spec.model.__name__: own_fields(spec.model) for spec in ACCOUNTS.commands}
    assert made == {
        "CreateAccount": ["account_id", "username", "full_name"],
        "UpdateAccount": ["account_id", "expected_version", "clear", "username", "full_name"],
        "DeleteAccount": ["account_id", "expected_version"],
    }
    assert {event.__name__: own_fields(event) for event in ACCOUNTS.events} == {
        "AccountCreated": ["account_id", "username", "full_name"],
        "AccountUpdated": ["account_id", "clear", "username", "full_name"],
        "AccountDeleted": ["account_id"],
    }
    columns = "id service_name username full_name username_folded deleted version created_at updated_at"
    assert accounts.table.columns.keys() == columns.split()
    assert (ACCOUNTS.aggregate, accounts.table.name, accounts.table.schema) == (
        "accounts",
        "accounts",
        "public",
    )
    assert set(ACCOUNTS.codes) == {"ALREADY_EXISTS", "NOT_FOUND", "VERSION_CONFLICT", "USERNAME_TAKEN"}


def test_a_life_gives_a_command_and_an_event_for_each_step() -> None:
    fields = {spec.model.__name__: own_fields(spec.model) for spec in JOBS.commands}
    assert fields["CreateJob"] == ["job_id", "account_id", "name"], "what steps bring is not given before"
    assert fields["StartJob"] == ["job_id", "expected_version"]
    assert fields["FinishJob"] == ["job_id", "expected_version", "result"]
    assert {event.__name__ for event in JOBS.events} >= {"JobStarted", "JobFinished"}


def test_a_part_of_a_family_carries_the_key_of_what_it_belongs_to() -> None:
    fields = {spec.model.__name__: own_fields(spec.model) for spec in FOLDERS.commands}
    assert fields["DeleteFolderFile"] == ["folder_id", "folder_file_id", "expected_version"]
    made = file("Create", "f1", folder_id="d1", filename="a.txt")
    assert FOLDERS.key(made) == FOLDERS.key(folder("Create", "d1", title="t")) == "d1"


def test_events_have_no_rules_that_may_become_stricter() -> None:
    event = accounts.messages.created
    assert event.model_fields["username"].annotation is str
    assert event.model_fields["username"].metadata == []


def test_a_list_that_may_be_left_out_has_a_default_in_its_schema() -> None:
    fields = draft_schema(accounts.messages.update, "tests")["fields"]
    (clear,) = [each for each in fields if each["name"] == "clear"]
    assert clear["default"] == []


def test_readers_see_the_rows_without_what_is_hidden_or_for_the_engine() -> None:
    view = items.view
    assert view is not None
    assert (view.name, view.table.name, view.key_columns) == ("items", "items_view", ("id",))
    columns = "id service_name name data order version created_at updated_at"
    assert [column.name for column in view.table.columns] == columns.split()


def test_every_state_of_a_family_has_its_own_view() -> None:
    assert [state.view.name for state in FOLDERS.states if state.view] == ["folders", "folder-files"]


# --- what may happen ---


def test_a_row_is_created_changed_and_deleted() -> None:
    memory = ContextInMemory(ACCOUNTS)
    memory.send(account("Create", "a1", username="Ann", full_name="Ann A."))
    memory.send(account("Update", "a1", username="Anne", expected_version=1))
    row = memory.state("a1")
    assert (row.username, row.full_name, row.version, row.service_name) == ("Anne", "Ann A.", 2, "tests")
    memory.send(account("Update", "a1", clear=["full_name"]))
    assert memory.state("a1").full_name is None
    memory.send(account("Delete", "a1"))
    row = memory.state("a1")
    assert (row.deleted, row.version) == (True, 4)
    assert [type(event).__name__ for event in memory.events] == [
        "AccountCreated",
        "AccountUpdated",
        "AccountUpdated",
        "AccountDeleted",
    ]


def test_who_changes_a_row_does_not_become_its_owner() -> None:
    memory = ContextInMemory(ACCOUNTS)
    memory.send(account("Create", "a1", username="ann"))
    change = account("Update", "a1", full_name="Ann").model_copy(update={"service_name": "other"})
    memory.send(change)
    assert memory.state("a1").service_name == "tests"


def test_what_may_not_happen_has_a_code() -> None:
    memory = ContextInMemory(ACCOUNTS)
    assert code(memory.send(account("Update", "a1", full_name="x"))) == "NOT_FOUND"
    memory.send(account("Create", "a1", username="Straße"))
    assert code(memory.send(account("Create", "a1", username="other"))) == "ALREADY_EXISTS"
    taken = memory.send(account("Create", "a2", username="STRASSE"))
    assert taken == Rejected(
        "USERNAME_TAKEN", "username 'strasse' is taken: choose a different one, or free it first"
    )
    assert code(memory.send(account("Update", "a1", full_name="x", expected_version=7))) == "VERSION_CONFLICT"
    memory.send(account("Delete", "a1"))
    assert code(memory.send(account("Delete", "a1"))) == "NOT_FOUND"
    assert code(memory.send(account("Create", "a1", username="ann"))) == "ALREADY_EXISTS", (
        "a key is used once"
    )
    assert code(memory.send(account("Create", "a2", username="Straße"))) == "accepted", (
        "a deleted row frees its values"
    )


def test_an_update_changes_something_and_empties_only_what_may_be_empty() -> None:
    for wrong, says in (
        ({}, "nothing to change: give username or full_name"),
        ({"clear": ["username"]}, "username cannot be emptied, only full_name"),
        ({"clear": ["full_name"], "full_name": "x"}, "full_name: give a value or name it in clear, not both"),
    ):
        with pytest.raises(ValidationError, match=says):
            account("Update", "a1", **wrong)


def test_the_steps_of_a_life_have_an_order() -> None:
    memory = ContextInMemory(JOBS, in_force={"accounts": ["a1"]})
    memory.send(job("Create", "j1", account_id="a1", name="n"))
    assert memory.state("j1").status == "queued"
    assert memory.send(job("Finish", "j1", result="r")) == Rejected(
        "WRONG_STATUS", "job 'j1' is queued; finish takes one that is running"
    )
    memory.send(job("Start", "j1"))
    row = memory.state("j1")
    assert (row.status, row.started_at, row.result) == ("running", NOW, None)
    memory.send(job("Finish", "j1", result="r"))
    assert (memory.state("j1").status, memory.state("j1").result) == ("finished", "r")


def test_a_value_that_a_step_brings_may_be_unique_without_regard_to_case() -> None:
    assign = step("Assign", "Assigned", before=("queued",), to="assigned", sets=("result",))
    machines = entity(Job, unique=(unique("result", ignore_case=True),), life=Life("queued", (assign,)))
    memory, command = ContextInMemory(machines.context()), Commands(machines)
    for key in ("j1", "j2"):
        memory.send(command("Create", key, account_id="a1", name="n"))
    assert memory.state("j1").result_folded is None, "no step brought it yet"
    memory.send(command("Assign", "j1", result="First"))
    assert memory.state("j1").result_folded == "first"
    assert code(memory.send(command("Assign", "j2", result="FIRST"))) == "RESULT_TAKEN"


def test_a_required_value_that_a_step_brings_is_null_before_it_also_as_it_is_compared() -> None:
    bring = step("Name", "Named", before=("queued",), to="named", sets=("name",))
    named = entity(Job, unique=(unique("name", ignore_case=True),), life=Life("queued", (bring,)))
    columns = named.table.columns
    assert (columns["name"].nullable, columns["name_folded"].nullable) == (True, True)


def test_what_is_referred_to_must_be_in_force_when_the_reference_begins() -> None:
    memory = ContextInMemory(JOBS, in_force={"accounts": ["a1"]})
    assert code(memory.send(job("Create", "j1", account_id="a2", name="n"))) == "NO_ACCOUNT"
    memory.send(job("Create", "j1", account_id="a1", name="n"))
    memory.in_force["accounts"] = []
    assert isinstance(memory.send(job("Update", "j1", name="m")), Accepted), "it was in force when it began"
    assert code(memory.send(job("Update", "j1", account_id="a3"))) == "NO_ACCOUNT"


def test_files_leave_with_their_folder() -> None:
    memory = ContextInMemory(FOLDERS)
    created = file("Create", "f1", folder_id="d1", filename="a.txt")
    assert code(memory.send(created)) == "NO_FOLDER"
    memory.send(folder("Create", "d1", title="t"))
    assert code(memory.send(created)) == "accepted"
    assert code(memory.send(file("Update", "f1", folder_id="d2", filename="b"))) == "NOT_FOUND", (
        "of another folder"
    )
    assert code(memory.send(file("Create", "f2", folder_id="d1", filename="a.txt"))) == "FILENAME_TAKEN"
    memory.send(folder("Delete", "d1"))
    assert code(memory.send(file("Update", "f1", folder_id="d1", filename="b"))) == "NO_FOLDER"
    assert memory.state("f1", "folder_files").filename == "a.txt"


def test_an_own_rule_is_asked_when_the_others_are_content() -> None:
    def no_admin(row: Any, command: Any, at: Any) -> Rejected | None:
        return Rejected("RESERVED", "not that one") if getattr(command, "username", "") == "admin" else None

    context = entity(Account, plural="ruled", rules=(no_admin,)).context()
    memory = ContextInMemory(context)
    create: Any = context.commands[0].model
    values = {"command_id": "c", "service_name": "s", "timestamp": NOW, "account_id": "a1"}
    assert code(memory.send(create(**values, username="admin"))) == "RESERVED"
    assert code(memory.send(create(**values, username="ann"))) == "accepted"


# --- what a declaration may not say ---

Code = Annotated[str, StringConstraints(pattern="^[a-z]+$")]


@pytest.mark.parametrize("name", ["timestamp", "id", "version", "clear", "deleted", "thing_id"])
def test_a_name_that_the_engine_uses_is_refused(name: str) -> None:
    made = create_model("Thing", __base__=Message, **{name: (str, ...)})  # type: ignore[call-overload]
    with pytest.raises(ContractError, match=f"Thing.{name}: the engine fills {name} itself"):
        entity(made)


def test_two_patterns_on_one_field_are_refused() -> None:
    """The second one would be lost without a word."""
    made = create_model("Thing", __base__=Message, code=(Label, Field(pattern="^[a-z]+$")))
    with pytest.raises(ContractError, match=r"Thing\.code: two patterns, of which only one would count"):
        entity(made)


@pytest.mark.parametrize(
    "options",
    [
        {"unique": (unique("nothing"),)},
        {"refers": (refers("nothing", to="accounts", code="NO_ACCOUNT"),)},
        {"index": (("nothing",),)},
        {"index": (gin("nothing"),)},
        {"index": (member("nothing", "type"),)},
        {"hidden": ("nothing",)},
        {"sign_in": SignInColumns("nothing", "username")},
        {"sign_in": SignInColumns("username", "nothing")},
        {"sign_in": SignInColumns("username", "username", active="nothing")},
    ],
)
def test_an_option_names_a_field_that_there_is(options: Any) -> None:
    with pytest.raises(ContractError, match="no field nothing"):
        entity(Account, **options)


def test_a_family_is_of_those_that_were_declared_within_its_first() -> None:
    with pytest.raises(ContractError, match="declare accounts within folders"):
        family("mixed", folders, accounts)


def test_two_read_models_of_one_name_are_refused() -> None:
    view = accounts.state.view
    assert view is not None
    as_projection = accounts.state.as_projection(view.name)
    with pytest.raises(ContractError, match="accounts has two read models named accounts"):
        accounts.context(projections=(as_projection,))


def test_a_name_that_postgresql_would_cut_is_refused() -> None:
    with pytest.raises(ContractError, match="longer than the 63 bytes"):
        entity(Account, plural="a" * 50, unique=(unique("username", "full_name"),))


# --- deletion for good ---


@pytest.mark.parametrize("key", [" n1", "n1 ", "cafe\u0301", "n\u202e1", "n\t1"])
def test_a_new_key_is_clean_and_a_row_of_before_is_found_by_one_that_is_not(key: str) -> None:
    with pytest.raises(ValidationError, match=r"note_id\n.*: send '"):
        note("Create", key, title="a")
    memory = ContextInMemory(NOTES)
    before = note("Create", "n1", title="a")
    memory.send(before.model_construct(**dict(before) | {"note_id": key}))
    if "\t" in key:
        return  # was never a key
    assert code(memory.send(note("Update", key, title="b"))) == "accepted"
    assert memory.state(key).title == "b"
    assert code(memory.send(note("Delete", key))) == "accepted"
    assert memory.state(key).deleted


def test_a_row_may_belong_to_one_whose_key_is_not_clean() -> None:
    assert (
        file("Create", "f1", folder_id=" of before", filename="a").model_dump()["folder_id"] == " of before"
    )
    with pytest.raises(ValidationError, match="folder_file_id"):
        file("Create", " f1", folder_id="d1", filename="a")


def test_a_row_that_is_deleted_for_good_is_emptied_and_its_key_begins_anew() -> None:
    memory = ContextInMemory(NOTES)
    memory.send(note("Create", "n1", title="a", text="private", data='{"x": 1}', rank=7))
    created_at = memory.state("n1").created_at
    memory.send(note("Delete", "n1"))
    row = memory.state("n1")
    assert (row.deleted, row.title, row.text, row.data, row.rank) == (True, "", None, "{}", 0)
    assert code(memory.send(note("Update", "n1", title="b"))) == "NOT_FOUND"
    memory.now += timedelta(hours=1)
    assert code(memory.send(note("Create", "n1", title="a"))) == "accepted"
    row = memory.state("n1")
    assert (row.deleted, row.title, row.text, row.version) == (False, "a", None, 3)
    assert row.created_at == created_at + timedelta(hours=1)
    stale = note("Update", "n1", title="c", expected_version=1)
    assert code(memory.send(stale)) == "VERSION_CONFLICT", "it was meant for the former row"


def test_a_row_in_force_keeps_its_key_also_where_deletion_is_for_good() -> None:
    memory = ContextInMemory(NOTES)
    memory.send(note("Create", "n1", title="a"))
    assert code(memory.send(note("Create", "n1", title="b"))) == "ALREADY_EXISTS"
    assert "delete that one first" in NOTES.codes["ALREADY_EXISTS"]


def test_what_others_belong_to_is_not_deleted_for_good() -> None:
    class Box(Message):
        """A box."""

        title: Label = Field(description="What stands on it.")

    class Thing(Message):
        """A thing in a box."""

        name: Label = Field(description="Its name.")

    boxes = entity(Box, plural="boxes", delete="hard")
    with pytest.raises(ContractError, match="what belonged to it would be back"):
        family("boxes", boxes, entity(Thing, within=boxes))
