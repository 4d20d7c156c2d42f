"""The commands and events of an entity, made from its class of fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from operator import attrgetter, or_
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import AfterValidator, Field, create_model, model_validator
from pydantic.fields import FieldInfo

from tidemill.api.clean_text import CleanKey
from tidemill.api.entities.options import Options, Step
from tidemill.domain.errors import ContractError
from tidemill.domain.messages import BASE_FIELDS, CommandBase, EventBase, Label, Message

TAKEN: Final = frozenset(
    {
        *BASE_FIELDS,
        "id",
        "uuid",
        "version",
        "created_at",
        "updated_at",
        "deleted",
        "clear",
        "expected_version",
    }
)
"""Names that the engine gives a meaning of its own."""

Version = Annotated[int, Field(ge=1, le=2**63 - 1)]

_EXPECTED: Final = "Only if nothing happened to it since this version."
_CLEAR: Final = "The fields that are emptied."


@dataclass(frozen=True)
class EntityMessages:
    """The classes of an entity. `steps`: of its life, each with its command and its event.

    `expire`: the service's own command about a row whose time is over; None: rows do not expire.
    """

    create: type[CommandBase]
    update: type[CommandBase]
    delete: type[CommandBase]
    created: type[EventBase]
    updated: type[EventBase]
    deleted: type[EventBase]
    steps: tuple[tuple[Step, type[CommandBase], type[EventBase]], ...]
    expire: type[CommandBase] | None = None


@dataclass(frozen=True)
class Naming:
    """The words of an entity. `noun`: of texts. `key`: the field with its key.

    `parent`: the field with the key of what it belongs to. `parent_table`: the table of that. `no_parent`: the code of
    a command for which there is none.
    """

    name: str
    noun: str
    key: str
    parent: str = ""
    parent_table: str = ""
    no_parent: str = ""

    @property
    def new_key(self) -> Any:
        """Return the field with the key of a row that is created: rows of before may have keys that are not clean."""
        return CleanKey, Field(description=f"The {self.noun}.")

    @property
    def keys(self) -> dict[str, Any]:
        """Return the fields that say which row a command is about."""
        own = {self.key: (Label, Field(description=f"The {self.noun}."))}
        if not self.parent:
            return own
        belongs = f"What the {self.noun} belongs to."
        return {self.parent: (Label, Field(description=belongs)), **own}


def check_fields(model: type[Message], naming: Naming) -> None:
    """Raise `ContractError` for a field that cannot be what it says, with the line to change."""
    for name, info in model.model_fields.items():
        where = f"{model.__name__}.{name}"
        if name in TAKEN or name in {naming.key, naming.parent}:
            raise ContractError(f"{where}: the engine fills {name} itself; give the field another name")
        patterns = [each for each in info.metadata if getattr(each, "pattern", None) is not None]
        if len(patterns) > 1:
            raise ContractError(
                f"{where}: two patterns, of which only one would count; write the type as one Annotated[str, ...]"
            )


def messages_of(model: type[Message], naming: Naming, options: Options) -> EntityMessages:
    """Return the classes of an entity. Raises `ContractError` as `check_fields` does.

    The declared fields come last: a field that is added to the class is then added at the end of each schema.
    """
    check_fields(model, naming)
    life = options.life
    kept = options.kept_from_commands
    fields = {name: info for name, info in model.model_fields.items() if name not in kept}
    make = _Maker(model, naming)
    created = {name: (_typed(info), _described(info)) for name, info in fields.items()}
    changed = {name: (_typed(info) | None, _optional(info)) for name, info in fields.items()}
    clear = _clear(fields)
    expected = {"expected_version": (Version | None, Field(default=None, description=_EXPECTED))}
    plain = {name: (plain_type(kind), info) for name, (kind, info) in created.items()}
    plain_changed = {name: (plain_type(kind), info) for name, (kind, info) in changed.items()}
    plain_clear = {name: (list[str], info) for name, (_, info) in clear.items()}
    return EntityMessages(
        create=make.command("Create", {naming.key: naming.new_key} | created),
        update=make.command("Update", expected | clear | changed, changes=tuple(fields)),
        delete=make.command("Delete", expected),
        created=make.event("Created", "was created", plain),
        updated=make.event("Updated", "changed; what is null stayed as it was", plain_clear | plain_changed),
        deleted=make.event("Deleted", "was deleted", {}),
        steps=tuple(make.step(each, model, expected) for each in (life.steps if life else ())),
        expire=make.command("Expire", {}) if options.expires else None,
    )


class _Maker:
    """Makes the classes of one entity."""

    def __init__(self, model: type[Message], naming: Naming) -> None:
        self._module = model.__module__
        self._naming = naming

    def command(
        self, verb: str, fields: Mapping[str, Any], *, changes: tuple[str, ...] = ()
    ) -> type[CommandBase]:
        naming = self._naming
        return self._made(
            f"{verb}{naming.name}", CommandBase, f"{verb} a {naming.noun}.", fields, _something(changes)
        )

    def event(self, participle: str, happened: str, fields: Mapping[str, Any]) -> type[EventBase]:
        naming = self._naming
        name = f"{naming.name}{participle}"
        return self._made(name, EventBase, f"A {naming.noun} {happened}.", fields, {})

    def step(
        self, step: Step, model: type[Message], expected: Mapping[str, Any]
    ) -> tuple[Step, type[CommandBase], type[EventBase]]:
        infos = {name: model.model_fields[name] for name in step.sets}
        brought = {name: (_required(_typed(info)), _described(info)) for name, info in infos.items()}
        plain = {name: (plain_type(kind), info) for name, (kind, info) in brought.items()}
        command = self.command(step.verb, dict(expected) | brought)
        return step, command, self.event(step.participle, f"was {step.participle.lower()}", plain)

    def _made(
        self, name: str, base: type[Any], doc: str, fields: Mapping[str, Any], validators: Mapping[str, Any]
    ) -> type[Any]:
        keys = self._naming.keys
        if issubclass(base, EventBase):
            keys = {each: (str, info) for each, (_, info) in keys.items()}
        made: type[Any] = create_model(
            name,
            __base__=base,
            __module__=self._module,
            __doc__=doc,
            __validators__=dict(validators),
            **(keys | dict(fields)),
        )
        return made


def _something(changes: tuple[str, ...]) -> dict[str, Any]:
    """Return the validator of a command that must change one of these fields."""
    if not changes:
        return {}

    values_of = attrgetter(*changes)  # of one field its value, of several a tuple of them
    nothing = None if len(changes) == 1 else (None,) * len(changes)

    def changes_something(command: Any) -> Any:
        cleared = command.clear
        if not cleared:
            if values_of(command) == nothing:
                raise ValueError(f"nothing to change: give {' or '.join(changes)}")
            return command
        if both := [name for name in cleared if getattr(command, name) is not None]:
            raise ValueError(f"{', '.join(both)}: give a value or name it in clear, not both")
        return command

    return {"changes_something": model_validator(mode="after")(changes_something)}


def _clear(fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Return the field that names what is emptied. It is there also while no field can be, since one may be added."""
    nullable = [name for name, info in fields.items() if _is_nullable(info.annotation)]
    able = f"only {', '.join(nullable)}" if nullable else "nor can another field"

    def known(names: list[str]) -> list[str]:
        if names and (wrong := sorted(set(names).difference(nullable))):
            raise ValueError(f"{', '.join(wrong)} cannot be emptied, {able}")
        return names

    kind = Annotated[list[Label], AfterValidator(known), Field(max_length=len(fields))]
    return {"clear": (kind, Field(default=[], description=_CLEAR))}


# --- types ---


def _typed(info: FieldInfo) -> Any:
    """Return a field's type with its rules."""
    kind: Any = info.annotation
    for each in info.metadata:
        kind = Annotated[kind, each]
    return kind


def _described(info: FieldInfo) -> Any:
    if info.is_required():
        return Field(description=info.description)
    return Field(default=info.default, description=info.description)


def _optional(info: FieldInfo) -> Any:
    return Field(default=None, description=info.description)


def _is_nullable(kind: Any) -> bool:
    if get_origin(kind) is Annotated:
        return _is_nullable(get_args(kind)[0])
    return get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind)


def _required(kind: Any) -> Any:
    """Return a type without None, with its rules."""
    if get_origin(kind) is Annotated:
        inner, *rules = get_args(kind)
        kind = _required(inner)
        for each in rules:
            kind = Annotated[kind, each]
        return kind
    if _is_nullable(kind):
        return reduce(or_, (each for each in get_args(kind) if each is not NoneType))
    return kind


def plain_type(kind: Any) -> Any:
    """Return a type without rules, as events have it: they may become stricter, and events stay readable."""
    if get_origin(kind) is Annotated:
        inner = get_args(kind)[0]
        return kind if inner is Decimal else plain_type(inner)
    if get_origin(kind) in (Union, UnionType):
        return reduce(or_, (plain_type(each) for each in get_args(kind)))
    return kind
