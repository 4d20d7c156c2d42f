"""The row of an entity, its table, and how its events change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, field, fields, make_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints
from uuid import UUID

from sqlalchemy import JSON, Column, Index, MetaData, Table

from tidemill.api.entities.messages import EntityMessages, Naming
from tidemill.api.entities.options import Options, Step, UniqueFields
from tidemill.api.entities.rules import EntityRules
from tidemill.api.indexes import DeclaredIndex, sql_name
from tidemill.api.tables import row_table
from tidemill.domain.collection import Crud
from tidemill.domain.folded_text import folded, folded_column
from tidemill.domain.messages import CommandBase, Message
from tidemill.domain.read_view import ReadView
from tidemill.domain.state import Expiry, Reference, State, Unique
from tidemill.domain.state_rows import changed_row, make_row

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_LEAST: Final[dict[Any, Any]] = {
    str: "",
    int: 0,
    float: 0.0,
    bool: False,
    datetime: _NEVER,
    date: date.min,
    Decimal: Decimal(0),
    UUID: UUID(int=0),
}

_ENGINE_FIELDS: Final = (
    ("deleted", bool, field(default=False)),
    ("version", int, field(default=0)),
    ("created_at", datetime, field(default=_NEVER)),
    ("updated_at", datetime, field(default=_NEVER)),
)


def row_class(model: type[Message], naming: Naming, options: Options) -> type[Any]:
    """Return the dataclass of a row: key, owner, fields, folded texts, deleted, and what the engine fills."""
    parent = [(naming.parent, str)] if naming.parent else []
    own = [(name, _hint(info, nullable=name in options.brought)) for name, info in model.model_fields.items()]
    texts = [
        (folded_column(name), str if is_required(model, name) and name not in options.brought else str | None)
        for name in options.ignoring_case
    ]
    return make_dataclass(
        f"{naming.name}Row",
        [("id", str), ("service_name", str), *parent, *own, *texts, *_ENGINE_FIELDS],
        namespace={"__doc__": f"A row of {naming.noun}.", "__module__": model.__module__},
        frozen=True,  # without slots: see `domain.state_rows`
        kw_only=True,
    )


def _hint(info: Any, *, nullable: bool) -> Any:
    kind = info.annotation
    for each in info.metadata:
        kind = Annotated[kind, each]
    return kind | None if nullable else kind


def is_required(model: type[Message], name: str) -> bool:
    """Tell whether a field may not be null."""
    kind = model.model_fields[name].annotation
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return type(None) not in get_args(kind)


def table_of(plural: str, row: type[Any], indexes: Sequence[DeclaredIndex], expires: str = "") -> Table:
    """Return the table of the rows with its indexes. Raises `ContractError` for a field that there is not.

    `expires`: the field by whose index the rows whose time is over are found; the deleted ones are not in it.
    """
    table = row_table(plural, row, key="id", index=indexes)
    if expires:
        name = sql_name(plural, expires)
        Index(name, table.columns[expires], postgresql_where=~table.columns["deleted"])
    return table


def state_of(
    model: type[Message],
    naming: Naming,
    messages: EntityMessages,
    table: Table,
    row: type[Any],
    options: Options,
) -> State:
    """Return the state: how events make and change rows, and what must hold across them."""
    rules = EntityRules(naming, messages, options)
    steps = [event for _, _, event in messages.steps]
    return State(
        model=row,
        table=table,
        key="id",
        evolve=_evolution(model, naming, messages, row, options),
        clocked=True,
        events=(messages.created, messages.updated, messages.deleted, *steps, *options.more.events),
        unique=tuple(_unique(table, each) for each in options.unique),
        refers=references_of(naming, options),
        deleted="deleted",
        key_of=lambda event: str(getattr(event, naming.key)),
        view=view_of(table, options),
        sign_in=options.sign_in,
        new_rows=options.more.evolve is None,
        http=Crud(
            create=messages.create,
            update=messages.update,
            delete=messages.delete,
            key=naming.key,
            clear="clear",
            reused=options.delete == "hard",
        ),
        expiry=_expiry(naming, messages, rules, options),
        lapse=options.more.lapse,
    )


def _expiry(naming: Naming, messages: EntityMessages, rules: EntityRules, options: Options) -> Expiry | None:
    command = messages.expire
    if command is None:
        return None

    def make(key: str, base: Mapping[str, Any]) -> CommandBase:
        return command.model_validate({naming.key: key, **base})

    return Expiry(options.expires, command, rules.expire, attrgetter(naming.key), make)


def view_of(table: Table, options: Options) -> ReadView:
    """Return what readers see of the rows. Raises `ContractError` if PostgreSQL would cut its name."""
    engines = {"deleted", *map(folded_column, options.ignoring_case)}
    shown = [column for column in table.columns if column.name not in engines.union(options.hidden)]
    columns = [
        Column(column.name, column.type, primary_key=column.primary_key, nullable=column.nullable)
        for column in shown
    ]
    name = sql_name(table.name, "view")
    return ReadView(table.name.replace("_", "-"), Table(name, MetaData(), *columns, schema=table.schema))


def references_of(naming: Naming, options: Options) -> tuple[Reference, ...]:
    """Return what a row refers to; without what it belongs to it can neither begin nor change."""
    others = tuple(Reference(each.field, each.to, each.code, each.restrict) for each in options.refers)
    if not naming.parent:
        return others
    return (Reference(naming.parent, naming.parent_table, naming.no_parent, always=True), *others)


def _unique(table: Table, declared: UniqueFields) -> Unique:
    names = folded_names(declared)
    values = attrgetter(
        "deleted", *names
    )  # one call for all: it is asked of every row of a batch, several times

    def held(row: Any) -> tuple[Any, ...] | None:
        value: tuple[Any, ...] = values(row)
        return None if value[0] or None in value else value[1:]

    return Unique(
        columns=names,
        of=held,
        code=declared.code,
        constraint=sql_name(table.name, *declared.fields, "unique"),
        where=~table.columns["deleted"],
        shown=declared.fields,
        taken_by=_taken_by(declared),
    )


def _taken_by(declared: UniqueFields) -> Callable[[Any], tuple[Any, ...] | None]:
    """Return what reads the value from a command; one without all of the fields takes what its row says, too."""

    def taken(command: Any) -> tuple[Any, ...] | None:
        value: tuple[Any, ...] = tuple(getattr(command, name, None) for name in declared.fields)
        if None in value:
            return None
        return tuple(map(folded, value)) if declared.ignore_case else value

    return taken


def folded_names(declared: UniqueFields) -> tuple[str, ...]:
    """Return the columns whose values are unique together."""
    return tuple(folded_column(name) if declared.ignore_case else name for name in declared.fields)


def _evolution(
    model: type[Message], naming: Naming, messages: EntityMessages, row: type[Any], options: Options
) -> Callable[[Any, Any, datetime], Any]:
    """Return `evolve(row | None, event, at)`."""
    fold, more = options.ignoring_case, options.more.evolve
    key_of = attrgetter(naming.key)
    created = [name for name in messages.created.model_fields if name in _names(row)]
    fixed = {"service_name", naming.parent}
    updated = [name for name in messages.updated.model_fields if name in _names(row) - fixed]
    created_values, updated_values = _values_of(created), _values_of(updated)
    start: dict[str, Any] = {"status": options.life.start} if options.life else {}
    start |= dict.fromkeys(options.brought)
    start |= {name: model.model_fields[name].default for name in options.more.fields}
    steps = {event: step for step, _, event in messages.steps}
    hard, expires = options.delete == "hard", bool(options.expires)
    emptied = _emptied(row) if hard else {}
    blank = {own.name: own.default for own in fields(row) if own.default is not MISSING}
    blank |= {"id": "", **start}
    texts = [(name, folded_column(name)) for name in fold if name in {*created, *start}]

    def evolve(before: Any, event: Any, at: datetime) -> Any:
        kind = type(event)
        if kind is messages.created and (before is None or (hard and (before.deleted or expires))):
            held = blank.copy()
            held["id"] = key_of(event)
            held.update(zip(created, created_values(event), strict=True))
            for name, column in texts:
                held[column] = _folded_text(held[name])
            return make_row(row, held)
        if before is not None and kind is messages.updated:
            pairs = zip(updated, updated_values(event), strict=True)
            values = {name: value for name, value in pairs if value is not None}
            values |= dict.fromkeys(event.clear)
            return changed_row(before, values | _folded(values, fold))
        if before is not None and kind is messages.deleted:
            return changed_row(before, {"deleted": True, **emptied})
        if before is not None and kind in steps:
            values = _after_step(steps[kind], event, at)
            return changed_row(before, values | _folded(values, fold))
        if more is not None:
            return more(before, event, at)
        raise TypeError(f"{kind.__name__} cannot happen to {before}")

    return evolve


def _values_of(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: tuple(getattr(message, name) for name in names)


def _emptied(row: type[Any]) -> dict[str, Any]:
    """Return what the fields of a row have after its deletion for good: null, or what is least of their type."""
    engines = {"id", "service_name", *(name for name, _, _ in _ENGINE_FIELDS)}
    hints = get_type_hints(row)
    texts = {column: _least(hint) for column, hint in hints.items() if column not in engines}
    with_extras = get_type_hints(row, include_extras=True)
    objects = {name: "{}" for name in texts if texts[name] == "" and _is_json(with_extras[name])}
    return texts | objects


def _least(hint: Any) -> Any:
    if type(None) in get_args(hint):
        return None
    return _LEAST[hint]


def _is_json(hint: Any) -> bool:
    return get_origin(hint) is Annotated and any(isinstance(extra, JSON) for extra in get_args(hint)[1:])


def _after_step(step: Step, event: Any, at: datetime) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in step.sets}
    return {"status": step.to, **values, **({step.at: at} if step.at else {})}


def _folded(values: Mapping[str, Any], fold: Sequence[str]) -> dict[str, Any]:
    return {folded_column(name): _folded_text(values[name]) for name in fold if name in values}


def _folded_text(text: str | None) -> str | None:
    return None if text is None else folded(text)


def _names(row: type[Any]) -> set[str]:
    return set(row.__dataclass_fields__) - {"id"}
