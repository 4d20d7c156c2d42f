"""The collections of a deployment, from the declarations of its contexts: facts, states and read models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.domain.collection import Collection, CollectionKind, RevisionColumns
from tidemill.domain.errors import ContractError
from tidemill.domain.projection import Projection
from tidemill.domain.read_view import FactsView
from tidemill.domain.state import State
from tidemill.domain.table_shape import ColumnShape, KeyShape, TableShape, key_names


def collections_of(catalog: StreamCatalog) -> dict[str, Collection]:
    """Return the collections by name. Facts have none if a read model or a state has their name.

    Raises:
        ContractError: two read models or states have one name.
    """
    named: dict[str, Collection] = {}
    for part in catalog.contexts.values():
        for collection in (*_read_models(part), *_states(part)):
            if collection.name in named:
                raise ContractError(
                    f"collection {collection.name} is declared twice, by {named[collection.name].aggregate} and "
                    f"{collection.aggregate}, which must not share a name"
                )
            named[collection.name] = collection
    facts = {facts.name: facts for part in catalog.contexts.values() for facts in _facts(catalog, part)}
    return {**facts, **named}


def _read_models(part: ContextStream) -> Iterator[Collection]:
    for projection in part.context.projections:
        yield _read_model(part, projection)


def _read_model(part: ContextStream, projection: Projection) -> Collection:
    return Collection(
        name=projection.name,
        kind=CollectionKind.READ_MODEL,
        aggregate=part.stream.aggregate,
        table=projection.table,
        key=projection.key_columns,
        projection=projection.name,
    )


def _states(part: ContextStream) -> Iterator[Collection]:
    for state in part.context.states:
        table = _shown(state, part) if state.view is None else state.view.table
        yield Collection(
            name=state.name.replace("_", "-") if state.view is None else state.view.name,
            kind=CollectionKind.STATE,
            aggregate=part.stream.aggregate,
            table=table,
            key=key_names(table),
            crud=part.context.crud_of(state.table),
            stored=state.table,
        )


def _shown(state: State, part: ContextStream) -> TableShape:
    """Return a state's table without its secrets, which no reader is shown, in whichever form they are stored."""
    secret = part.stream.secrets.get(state.name, {})
    columns = [column for column in state.table.columns if column.name not in secret]
    return ShownTable(state.table.name, state.table.schema, _Columns(columns), state.table.primary_key)


def _facts(catalog: StreamCatalog, part: ContextStream) -> Iterator[Collection]:
    for facts in catalog.facts(part.context.aggregate):
        yield _fact_collection(part, facts)


def _fact_collection(part: ContextStream, facts: FactsView) -> Collection:
    policy = part.context.retention
    leaves = policy is not None and policy.table is facts.appended
    shown = next((current for current in part.context.current if current.table is facts.appended), None)
    return Collection(
        name=facts.name,
        kind=CollectionKind.FACTS,
        aggregate=part.stream.aggregate,
        table=facts.table,
        time_column=facts.time_column,
        retention=policy.table_name if policy is not None and leaves else None,
        crud=part.context.crud_of(facts.appended),
        stored=facts.stored,
        revisions=None if shown is None else RevisionColumns(shown.owner, shown.revision),
    )


@dataclass(frozen=True)
class ShownTable:
    """A table of which some columns are shown; the key's are."""

    name: str
    schema: str | None
    columns: _Columns
    primary_key: KeyShape


class _Columns:
    def __init__(self, columns: Sequence[ColumnShape]) -> None:
        self._columns: Mapping[str, ColumnShape] = {column.name: column for column in columns}

    def __iter__(self) -> Iterator[ColumnShape]:
        return iter(self._columns.values())

    def __len__(self) -> int:
        return len(self._columns)

    def __contains__(self, name: str, /) -> bool:
        return name in self._columns

    def __getitem__(self, name: str, /) -> ColumnShape:
        return self._columns[name]
