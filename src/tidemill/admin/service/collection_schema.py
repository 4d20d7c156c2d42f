"""The schema of a collection as one principal sees it: what is hidden from it is absent, not marked.

A column that is hidden by a grant is in no field, key, index or constraint. The fields of commands stay: a principal
that may write a value knows that it exists, and cannot read what others wrote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, Field

from tidemill.admin.service.models import AnswerModel, ChunkInfo, ContinuousAggregateInfo, HypertableInfo
from tidemill.admin.service.ports import TableCatalog
from tidemill.admin.service.rows import IndexFacts, TableFacts, TablePlace
from tidemill.domain.archive.policy import Retention
from tidemill.domain.collection import Collection, CollectionKind
from tidemill.domain.errors import RequestRefused, Unavailable
from tidemill.domain.messages import BASE_FIELDS, CommandBase
from tidemill.domain.records import record_fields
from tidemill.domain.request_codes import RequestCode
from tidemill.domain.table_shape import ColumnShape, TableShape
from tidemill.security.principals import Principal, Verb
from tidemill.submissions.json_values import json_fields

MAX_CHUNKS: Final = 100

A = TypeVar("A", bound=AnswerModel)


class ColumnUse(NamedTuple):
    """How a column is written in JSON, and what can be asked of it."""

    encoding: str
    operators: Sequence[str]
    sortable: bool


DescribeColumn = Callable[[Collection, str], ColumnUse]


class FieldSchema(AnswerModel):
    """A field. `type`: PostgreSQL's. `default_value`, `constraints`: as SQL. `encoding`: its form in JSON."""

    name: str
    type: str
    required: bool
    default_value: str | None = None
    constraints: list[str] = Field(default_factory=list)
    encoding: str
    operators: list[str] = Field(default_factory=list)
    sortable: bool = False


class IndexSchema(AnswerModel):
    """An index over fields."""

    name: str
    fields: list[str]
    unique: bool


class Partitioning(AnswerModel):
    """How rows are divided: `strategy` is `time`, `key` a field."""

    strategy: str
    key: str


class AccessSchema(AnswerModel):
    """What the principal may do: the verbs of its grant."""

    access_control: str


class CommandSchema(AnswerModel):
    """A command behind a verb, and its body as JSON Schema. The fields of every command may be left out."""

    command: str
    body: dict[str, Any]


class CollectionSchema(AnswerModel):
    """A collection: the specification's schema, and what a client needs to ask and to write."""

    name: str
    database: str
    fields: list[FieldSchema]
    indexes: list[IndexSchema]
    partitioning: Partitioning | None
    security: AccessSchema
    kind: CollectionKind
    key: list[str]
    time_column: str | None
    commands: dict[str, CommandSchema]
    limits: dict[str, float]
    hypertable: HypertableInfo | None = None
    chunks: list[ChunkInfo] = Field(default_factory=list)
    continuous_aggregates: list[ContinuousAggregateInfo] = Field(default_factory=list)


class SchemaList(AnswerModel):
    """Every collection that the principal has a grant for, by name, without chunks."""

    collections: list[CollectionSchema]


@dataclass(frozen=True, slots=True)
class Versioned(Generic[A]):
    """An answer with its strong ETag: equal bytes have equal ones."""

    answer: A
    etag: str

    @classmethod
    def of(cls, answer: A) -> Versioned[A]:
        """Return an answer with the ETag of its bytes."""
        return cls(answer, f'"{hashlib.sha256(answer.model_dump_json().encode()).hexdigest()[:32]}"')


@dataclass(frozen=True, kw_only=True)
class SchemaReader:
    """Reads schemas. `retention`: the policies by `schema.table`. `limits`: what a request may ask for, by name."""

    collections: Mapping[str, Collection]
    tables: TableCatalog
    describe: DescribeColumn
    retention: Mapping[str, Retention] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    max_chunks: int = MAX_CHUNKS

    async def one(self, principal: Principal, name: str) -> Versioned[CollectionSchema]:
        """Return the schema of a collection, with its newest `max_chunks` chunks.

        Raises:
            RequestRefused: `NO_COLLECTION`, alike for one that is not there and one without a grant.
            Unavailable: no database, or it lacks the collection's table.
        """
        collection = self.collections.get(name)
        if collection is None or principal.grant(name) is None:
            raise RequestRefused(RequestCode.NO_COLLECTION, "there is no such collection")
        facts = await self._facts([collection], self.max_chunks)
        return Versioned.of(self._schema(principal, collection, facts))

    async def every(self, principal: Principal) -> Versioned[SchemaList]:
        """Return the schemas of all collections that the principal has a grant for. Raises `Unavailable`."""
        shown = [one for _, one in sorted(self.collections.items()) if principal.grant(one.name) is not None]
        facts = await self._facts(shown, 0)
        present = [one for one in shown if place_of(one) in facts]
        return Versioned.of(SchemaList(collections=[self._schema(principal, one, facts) for one in present]))

    async def _facts(
        self, collections: Sequence[Collection], max_chunks: int
    ) -> Mapping[TablePlace, TableFacts]:
        places = list(dict.fromkeys(map(place_of, collections)))
        return await self.tables.describe(places, max_chunks=max_chunks) if places else {}

    def _schema(
        self, principal: Principal, collection: Collection, every: Mapping[TablePlace, TableFacts]
    ) -> CollectionSchema:
        place, hidden = place_of(collection), principal.hidden(collection.name)
        facts = every.get(place)
        if facts is None:
            raise Unavailable("database", f"it lacks what the collection {collection.name} reads")
        columns = [column for column in collection.table.columns if column.name not in hidden]
        names = {column.name for column in columns}
        time_column = collection.time_column if collection.time_column in names else None
        return CollectionSchema(
            name=collection.name,
            database=facts.database,
            fields=[self._field(collection, column, facts, names) for column in columns],
            indexes=[
                IndexSchema(name=index.name, fields=list(index.columns), unique=index.unique)
                for index in facts.indexes
                if _is_shown(index, names, hidden)
            ],
            partitioning=Partitioning(strategy="time", key=time_column)
            if facts.hypertable and time_column
            else None,
            security=AccessSchema(access_control=_access(principal, collection)),
            kind=collection.kind,
            key=[name for name in collection.key if name in names],
            time_column=time_column,
            commands=_commands(principal, collection),
            limits=dict(self.limits),
            hypertable=self._hypertable(collection, place, facts) if time_column else None,
            chunks=_chunks(place, facts) if time_column else [],
            continuous_aggregates=_aggregates(collection, place, facts) if not hidden else [],
        )

    def _field(
        self, collection: Collection, column: ColumnShape, facts: TableFacts, shown: set[str]
    ) -> FieldSchema:
        known, use = facts.columns.get(column.name), self.describe(collection, column.name)
        constraints = [
            one.definition
            for one in facts.constraints
            if column.name in one.columns and shown.issuperset(one.columns)
        ]
        return FieldSchema(
            name=column.name,
            type=known.type if known else str(column.type).lower(),
            required=not column.nullable,
            default_value=known.default if known else None,
            constraints=constraints if column.nullable else ["NOT NULL", *constraints],
            encoding=use.encoding,
            operators=list(use.operators),
            sortable=use.sortable,
        )

    def _hypertable(
        self, collection: Collection, place: TablePlace, facts: TableFacts
    ) -> HypertableInfo | None:
        hypertable, created_at = facts.hypertable, _created_at(collection, facts)
        if hypertable is None or created_at is None:
            return None
        policy = self.retention.get(str(place))
        return HypertableInfo(
            table_name=str(place),
            time_column=hypertable.time_column,
            chunk_interval=hypertable.chunk_interval,
            compression_enabled=hypertable.compression_enabled,
            retention_period=f"{policy.after.days} days" if policy and policy.enabled else None,
            created_at=created_at,
            last_chunk_created=hypertable.last_chunk_created,
            chunks=hypertable.chunks,
        )


def place_of(collection: Collection) -> TablePlace:
    """Return schema and name of the table that holds a collection's rows: a view has no indexes, chunks and bytes."""
    return TablePlace(collection.written.schema or "public", collection.written.name)


def _created_at(collection: Collection, facts: TableFacts) -> Any:
    """Return when the first revision of the collection's context was applied, else the first of all."""
    branch = collection.aggregate.replace("-", "_")
    return facts.first_applied.get(branch) or min(facts.first_applied.values(), default=None)


def _is_shown(index: IndexFacts, shown: set[str], hidden: frozenset[str]) -> bool:
    """Tell whether an index names shown columns alone; what an expression names is not known here."""
    return shown.issuperset(index.columns) and (index.plain or not hidden)


def _access(principal: Principal, collection: Collection) -> str:
    grant = principal.grant(collection.name)
    return ", ".join(sorted(verb.value for verb in grant.verbs)) if grant else ""


def _commands(principal: Principal, collection: Collection) -> dict[str, CommandSchema]:
    crud = collection.crud
    models = {Verb.CREATE: crud.create, Verb.UPDATE: crud.update, Verb.DELETE: crud.delete}
    return {
        verb.value: CommandSchema(command=model.__name__, body=_body(model, collection.written, crud.key))
        for verb, model in models.items()
        if model is not None and principal.may(verb, collection.name)
    }


@lru_cache(maxsize=1_000)
def _body(model: type[CommandBase], table: TableShape, key: str | None) -> dict[str, Any]:
    """Describe the body of a command; a key may be left out: the URL has it, or it is made for what is created."""
    schema = model.model_json_schema()
    required = [name for name in schema.get("required", []) if name not in BASE_FIELDS and name != key]
    _embed(schema, model, table)
    for record in record_fields(model).values():
        _embed(schema["$defs"][record.__name__], record, table)
    return schema | {"required": required}


def _embed(schema: dict[str, Any], model: type[BaseModel], table: TableShape) -> None:
    """Describe the fields that are embedded in a body, though commands have them as text: objects, unless they say."""
    for name in json_fields(model, table):
        field = schema["properties"][name]
        kinds = field.get("anyOf", [{key: value for key, value in field.items() if key in {"type", "items"}}])
        kept = {key: value for key, value in field.items() if key in {"title", "default", "description"}}
        embedded = [{"type": "object"} if kind.get("type") == "string" else kind for kind in kinds]
        schema["properties"][name] = kept | {"anyOf": embedded}


def _chunks(place: TablePlace, facts: TableFacts) -> list[ChunkInfo]:
    return [
        ChunkInfo(
            chunk_name=chunk.chunk_name,
            table_name=str(place),
            range_start=chunk.range_start,
            range_end=chunk.range_end,
            compressed=chunk.compressed,
            size_bytes=chunk.size_bytes,
        )
        for chunk in facts.chunks
    ]


def _aggregates(
    collection: Collection, place: TablePlace, facts: TableFacts
) -> list[ContinuousAggregateInfo]:
    created_at = _created_at(collection, facts)
    return [
        ContinuousAggregateInfo(
            view_name=aggregate.view_name,
            source_table=str(place),
            refresh_policy=None if aggregate.refresh_policy is None else dict(aggregate.refresh_policy),
            materialized=aggregate.materialized,
            created_at=created_at,
        )
        for aggregate in facts.aggregates
        if created_at is not None
    ]
