"""The Python classes and the `.avsc` files say the same, and the folder keeps its own rules."""

from __future__ import annotations

import pytest

from tidemill.app.context_loader import ALL, load_contexts
from tidemill.catalog.drafts import out_of_step
from tidemill.catalog.schemas import check_schemas, contexts_in, load_messages
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent
from tidemill.domain.context import Context
from tidemill.domain.messages import CommandBase, Message
from tidemill.runtime.resources import schemas_dir

CONTEXTS = load_contexts(ALL)


def classes_of(context: Context) -> list[type[Message]]:
    classes: list[type[Message]] = [spec.model for spec in context.commands]
    classes += context.events
    return classes


CLASSES = [(context, model) for context in CONTEXTS for model in classes_of(context)]


@pytest.mark.parametrize(("context", "model"), CLASSES, ids=lambda each: getattr(each, "__name__", None))
def test_a_class_says_what_its_schema_says(context: Context, model: type[Message]) -> None:
    message = load_messages(schemas_dir(), context.name)[context.full_name(model)]
    assert out_of_step(model, message.current.record) == []
    assert message.role == ("command" if issubclass(model, CommandBase) else "event")


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.name)
def test_every_schema_has_its_class(context: Context) -> None:
    classes = {context.full_name(model) for model in classes_of(context)}
    assert load_messages(schemas_dir(), context.name).keys() == classes


@pytest.mark.parametrize(("model", "role"), [(ArchivalEvent, "event"), (ArchivalConfirmation, "command")])
def test_the_archives_messages_say_what_their_schemas_say(model: type[Message], role: str) -> None:
    message = load_messages(schemas_dir(), "archival")[f"tidemill.archival.{model.__name__}"]
    assert out_of_step(model, message.current.record) == []
    assert message.role == role


def test_every_folder_of_schemas_has_its_context() -> None:
    own = ["archival", "outcome"]
    assert contexts_in(schemas_dir()) == sorted([*own, *(context.name for context in CONTEXTS)])


def test_the_contract_is_kept() -> None:
    assert check_schemas(schemas_dir()) == []


def test_what_is_in_use_was_released() -> None:
    for context in contexts_in(schemas_dir()):
        for message in load_messages(schemas_dir(), context).values():
            assert message.released, f"{message.name}: copy it to released/ before others use it"
