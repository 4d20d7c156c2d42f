"""`entity` and `family`: a context from classes of fields."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final, cast

from sqlalchemy import Table

from tidemill.api.entities.expiry import check_expiry
from tidemill.api.entities.messages import EntityMessages, Naming, messages_of
from tidemill.api.entities.options import (
    Deletion,
    Extra,
    Life,
    Options,
    Refers,
    Rule,
    UniqueFields,
)
from tidemill.api.entities.rows import references_of, row_class, state_of, table_of
from tidemill.api.entities.rules import ALREADY_EXISTS, EXPIRED, NOT_FOUND, VERSION_CONFLICT, EntityRules
from tidemill.api.entities.sign_in import check_sign_in, sign_in_fields
from tidemill.api.indexes import DeclaredIndex
from tidemill.domain.context import CommandSpec, Context, decide
from tidemill.domain.errors import ContractError
from tidemill.domain.messages import Message
from tidemill.domain.read_view import ReadView
from tidemill.domain.state import SignInColumns, State

ENTITY_PARTITIONS: Final = 8
"""Lanes of an entity, where a deployment does not choose: fewer than of facts, of which there are more."""

_TAKEN: Final = {
    "soft": "a key is used once, also after deletion: choose another",
    "hard": "a row in force has this key: choose another, or delete that one first",
}

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*")


@dataclass(frozen=True)
class Entity:
    """An aggregate, or a part of a family, that was declared by a class of fields."""

    naming: Naming
    plural: str
    messages: EntityMessages
    state: State
    commands: tuple[CommandSpec, ...]
    codes: Mapping[str, str]
    delete: Deletion

    @property
    def table(self) -> Table:
        """Return the table of the rows."""
        return cast("Table", self.state.table)

    @property
    def view(self) -> ReadView | None:
        """Return what readers see of the rows."""
        return self.state.view

    def context(self, **of_context: Any) -> Context:
        """Return the context of this entity alone; `of_context`: further arguments of `Context`.

        `aggregate`: by default the entity's plural.
        """
        return family(of_context.pop("aggregate", self.plural.replace("_", "-")), self, **of_context)


def entity(  # noqa: PLR0913  an argument for each option
    model: type[Message],
    *,
    plural: str = "",
    unique: Sequence[UniqueFields] = (),
    refers: Sequence[Refers] = (),
    index: Sequence[DeclaredIndex] = (),
    life: Life | None = None,
    rules: Sequence[Rule] = (),
    more: Extra | None = None,
    within: Entity | None = None,
    hidden: Sequence[str] = (),
    sign_in: SignInColumns | None = None,
    delete: Deletion = "soft",
    expires: str = "",
) -> Entity:
    """Declare an aggregate by the class of its fields.

    The class `User` gives the commands `CreateUser`, `UpdateUser`, `DeleteUser` with the key `user_id`, the events
    `UserCreated`, `UserUpdated`, `UserDeleted`, the table `users` and the rules that go with them. An update leaves
    what is null as it was, and empties what `clear` names; `expected_version` refuses a change of what its sender did
    not see. A deleted row stays, keeps its key, and frees its unique values.

    Args:
        model: the fields, each with a description; its docstring says what a row is.
        plural: name of the table and of the collection; by default that of the class with an s.
        unique: `unique("username", ignore_case=True)` ...
        refers: `refers("user_id", to="users", code="NO_USER")` ...
        index: tuples of fields, `gin("data")`, `member("data", "type")`, `words("title")`.
        life: states in the field `status`, with a command and an event for each step.
        rules: own rules, asked when those of the entity are content.
        more: own commands.
        within: the entity that this one belongs to: it shares its key and its order (`family`).
        hidden: fields that no reader is shown; they are in the table, and in commands and events.
        sign_in: `SignInColumns("username", "hashed_password", active="is_active")`: who may sign in, with a name that
            is unique without regard to case, and a hash that is a secret (`tidemill verify-password`).
        delete: "hard": a deletion empties the fields of the row, and its key may be created again; versions go on
            counting, so that no change that was meant for the former row fits the new one.
        expires: the field with the time from which on no reader is shown a row, and its key is free; needs
            delete="hard". The service removes such rows with commands of its own.

    Raises:
        ContractError: a name is taken, a field has two patterns, an option names a field that there is not, or one
            that does not suit it.
    """
    options = Options(unique, refers, index, life, rules, more or Extra(), hidden, sign_in, delete, expires)
    naming = _naming(model, within)
    _check_options(model, naming, options)
    check_sign_in(model, options)
    check_expiry(model, options, is_part=within is not None)
    messages = messages_of(model, naming, options)
    name = plural or f"{_snake(model.__name__)}s"
    row = row_class(model, naming, options)
    state = state_of(model, naming, messages, table_of(name, row, index, expires), row, options)
    commands = _commands(naming, messages, state, options)
    return Entity(naming, name, messages, state, commands, _codes(naming, options), delete)


def family(aggregate: str, *entities: Entity, **of_context: Any) -> Context:
    """Return one context of several entities: they share lanes, and are folded in the order of their records.

    The first is the parent of the others, which were declared `within` it. `of_context`: further arguments of
    `Context`.

    Raises:
        ContractError: an entity does not belong to the first one, or two of them share a name or a code.
    """
    parent, *children = entities
    key = attrgetter(parent.naming.key)
    if foreign := [each.plural for each in children if each.naming.parent_table != parent.plural]:
        raise ContractError(f"family {aggregate}: declare {', '.join(foreign)} within {parent.plural}")
    if children and parent.delete == "hard":
        raise ContractError(
            f"family {aggregate}: a row of {parent.plural} may not be created again after its deletion, since what "
            "belonged to it would be back: leave out delete='hard'"
        )
    codes = ChainMap(dict(of_context.pop("codes", {})), *(dict(each.codes) for each in entities))
    states = tuple(each.state for each in entities)
    return Context(
        aggregate=aggregate,
        key=key,
        commands=tuple(spec for each in entities for spec in each.commands),
        codes=dict(codes),
        **{"partitions": ENTITY_PARTITIONS, **of_context},
        **({"state": states[0]} if len(states) == 1 else {"family": states}),
    )


def _naming(model: type[Message], within: Entity | None) -> Naming:
    snake = _snake(model.__name__)
    own = Naming(model.__name__, snake.replace("_", " "), f"{snake}_id")
    if within is None:
        return own
    missing = f"NO_{_snake(within.naming.name).upper()}"
    return replace(own, parent=within.naming.key, parent_table=within.plural, no_parent=missing)


def _snake(name: str) -> str:
    return "_".join(_WORDS.findall(name)).lower()


def _check_options(model: type[Message], naming: Naming, options: Options) -> None:
    fields = {*model.model_fields, "service_name", naming.parent}
    named = {name for each in options.unique for name in each.fields}
    named |= {each.field for each in options.refers} | options.brought | set(options.hidden)
    named |= {"status"} if options.life else set()
    named |= sign_in_fields(options) | {*filter(None, [options.expires])} | set(options.more.fields)
    if missing := sorted(named - fields):
        raise ContractError(f"{model.__name__} has no field {', '.join(missing)}, which an option names")
    if required := [name for name in options.more.fields if model.model_fields[name].is_required()]:
        raise ContractError(
            f"{model.__name__}.{', '.join(required)}: only own events fill it, so it needs a default to begin with"
        )


def _commands(
    naming: Naming, messages: EntityMessages, state: State, options: Options
) -> tuple[CommandSpec, ...]:
    rules = EntityRules(naming, messages, options)
    ruled = [
        (messages.create, rules.create),
        (messages.update, rules.update),
        (messages.delete, rules.delete),
        *((command, rules.step(step, event)) for step, command, event in messages.steps),
    ]
    key = attrgetter(naming.key)
    own = (replace(spec, state=state, key=key) for spec in options.more.commands)
    return (*(decide(model, rule, clocked=True, state=state, key=key) for model, rule in ruled), *own)


def _codes(naming: Naming, options: Options) -> dict[str, str]:
    noun = naming.noun
    codes = {
        ALREADY_EXISTS: _TAKEN[options.delete],
        NOT_FOUND: "no row in force has this key: create it, or correct the key",
        VERSION_CONFLICT: "the row changed since expected_version: read it again, then decide anew",
    }
    if options.expires:
        codes[EXPIRED] = "the time of the row is over already: choose a later one"
    for each in options.unique:
        words = " and ".join(each.fields)
        codes[each.code] = f"another {noun} in force has this {words}: choose another, or free it first"
    for other in references_of(naming, options):
        codes[other.code] = f"no row of {other.to} in force has this key: create it first, or correct the key"
    if options.life is not None:
        codes[options.life.code] = "the row is not in a status from which this step leads: read it again"
    return codes | dict(options.more.codes)
