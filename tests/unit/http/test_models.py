"""The specification's 28 models exist with its fields, in its order, of its types; ours only add optional ones."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from tidemill.admin.setup.revisions import MigrationInfo
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent
from tidemill.domain.archive.policy import RetentionPolicy
from tidemill.domain.messages import CommandBase, QueryBase, ReadModelBase
from tidemill.http import models

SPECIFIED: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_name("specified_models.toml").read_text()
)
ELSEWHERE = {
    model.__name__: model
    for model in (
        ArchivalConfirmation,
        ArchivalEvent,
        CommandBase,
        MigrationInfo,
        QueryBase,
        ReadModelBase,
        RetentionPolicy,
    )
}
STILL_TO_COME = {
    "HypertableRequest": "a hypertable is made by a context's migration",
    "HypertableResponse": "as its request",
    "MigrationRequest": "POST of migrations answers 501",
    "MigrationResponse": "as its request",
    "ModelDiscoveryResponse": "models are registered at run time by a later version",
    "ModelInfo": "as above",
    "ModelRegistrationRequest": "as above",
    "SchemaValidationResult": "the comparison is a verb of the command line today",
    "TransactionContext": "transactions answer 501",
    "ValidationIssue": "as SchemaValidationResult",
}
"""Models that are declared, and that no endpoint or message uses yet."""

OTHER_TYPES: dict[tuple[str, str], str] = {
    ("ReadModelBase", "uuid"): "a UUID in Python and in the database; its text in JSON",
    ("ArchivalEvent", "chunks"): "each is a record with the fields of ChunkInfo first",
}
NAMES = {"ArchivalStatus": str, "ModelInfo": models.ModelInfo, "ValidationIssue": models.ValidationIssue}


def model_of(name: str) -> Any:
    return ELSEWHERE.get(name) or getattr(models, name)


def types_of(model: Any) -> dict[str, Any]:
    """Field -> its type, without what `Annotated` adds."""
    hints = get_type_hints(model)
    if is_dataclass(model):
        return {field.name: hints[field.name] for field in fields(model)}
    return {name: hints[name] for name in model.model_fields}


def is_optional(model: Any, name: str) -> bool:
    if is_dataclass(model):
        field = next(field for field in fields(model) if field.name == name)
        return field.default is not MISSING or field.default_factory is not MISSING
    return not model.model_fields[name].is_required()


def specified(text: str) -> Any:
    scope = {
        "Optional": lambda of: of,
        "str": str,
        "int": int,
        "bool": bool,
        "float": float,
        "datetime": datetime,
        **NAMES,
    }
    import typing

    return eval(text, {"__builtins__": {}} | vars(typing) | scope)


def plain(hint: Any) -> Any:
    """A type in the specification's words: literals and enumerations of texts are texts."""
    if get_origin(hint) is Literal or (isinstance(hint, type) and issubclass(hint, str)):
        return str
    if get_origin(hint) in (list, dict):
        return get_origin(hint)[tuple(plain(argument) for argument in get_args(hint))]
    if get_origin(hint) is Union or type(hint).__name__ == "UnionType":
        inner = [plain(argument) for argument in get_args(hint)]
        return Union[tuple(inner)]  # noqa: UP007  its members are known at run time only
    return hint


def examples() -> list[Any]:
    every = [getattr(models, name) for name in models.__all__]
    return [model for model in every if isinstance(model.model_config.get("json_schema_extra"), dict)]


def test_all_of_them_are_specified() -> None:
    assert len(SPECIFIED) == 28
    assert STILL_TO_COME.keys() < SPECIFIED.keys()


@pytest.mark.parametrize("name", SPECIFIED)
def test_a_model_has_the_fields_of_the_specification(name: str) -> None:
    """In the same order, and nothing before them."""
    model = model_of(name)
    assert list(types_of(model))[: len(SPECIFIED[name])] == list(SPECIFIED[name])
    added = list(types_of(model))[len(SPECIFIED[name]) :]
    assert [field for field in added if not is_optional(model, field)] == []


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name in SPECIFIED for field in SPECIFIED[name]]
)
def test_a_field_has_the_type_of_the_specification(name: str, field: str) -> None:
    text = SPECIFIED[name][field]
    optional = text.startswith("Optional[")
    wanted = plain(specified(text.removeprefix("Optional[").removesuffix("]") if optional else text))
    wanted = Union[wanted, None] if optional else wanted  # noqa: UP007  as above
    hint = plain(types_of(model_of(name))[field])
    if (name, field) in OTHER_TYPES:
        assert hint != wanted
        return
    assert hint == wanted
    assert (NoneType in get_args(hint)) == optional


def test_the_uuid_of_a_read_model_is_its_text_in_json() -> None:
    assert types_of(ReadModelBase)["uuid"] is UUID
    assert TypeAdapter(ReadModelBase).dump_python(ReadModelBase(), mode="json")["uuid"] == str(UUID(int=0))


def test_what_may_be_null_may_be_absent() -> None:
    absent = {
        (name, field)
        for name, declared in SPECIFIED.items()
        for field, text in declared.items()
        if text.startswith("Optional[") and not is_optional(model_of(name), field)
    }
    assert absent == {("MigrationInfo", "applied_at")}, "an answer that we always give whole"


@pytest.mark.parametrize("model", examples(), ids=lambda model: str(model.__name__))
def test_an_example_is_of_its_model(model: type[BaseModel]) -> None:
    extra: Any = model.model_config["json_schema_extra"]
    for example in extra["examples"]:
        model.model_validate_json(TypeAdapter(dict[str, Any]).dump_json(example))


def test_every_field_over_http_is_described_and_every_model_has_an_example() -> None:
    ours = [getattr(models, name) for name in models.__all__ if name in SPECIFIED]
    bare = [(m.__name__, name) for m in ours for name, f in m.model_fields.items() if not f.description]
    assert bare == []
    assert [model for model in ours if model not in examples()] == []


def test_a_request_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        models.CommandRequest.model_validate({"command": "RecordMarketData", "sql": "select 1"})
    with pytest.raises(ValidationError):
        models.QueryRequest.model_validate({"query": "a", "timeout": 0})
