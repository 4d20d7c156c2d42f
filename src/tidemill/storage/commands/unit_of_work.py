"""The batch transaction on TimescaleDB: `commands.ports.UnitOfWork`."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg

from tidemill.commands.ports import ClosedRange, Locked
from tidemill.commands.rows import LedgerRow, LoggedCommand, LogRow, OutboxRow, ParkedRow
from tidemill.commands.superseded_ports import SupersededFacts
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import (
    CommitUnknown,
    ContractError,
    DataError,
    Fenced,
    GenerationClosed,
    LaneHalted,
    NotCompared,
    RepeatedIds,
    TransientError,
    Unavailable,
)
from tidemill.domain.lane import Anchor, Claim, Lane, Progress
from tidemill.domain.state import Reference, State, Unique
from tidemill.domain.state_rows import row_maker
from tidemill.domain.table_shape import TableShape, plain_name
from tidemill.outbox.pack import PackStart
from tidemill.outbox.ports import PackFormat
from tidemill.storage.commands import superseded
from tidemill.storage.commands.binary_copy import CopyColumn, encoder_of
from tidemill.storage.commands.column_shapes import Shapes, TableLock
from tidemill.storage.commands.copied_columns import LOG_COLUMNS, OUTBOX_COLUMNS
from tidemill.storage.commands.generations import ClosedGenerations, ClosedSet
from tidemill.storage.commands.kept_columns import Kept, keep, put_back
from tidemill.storage.commands.narrow_updates import names_to_write
from tidemill.storage.commands.packed_outbox import PACK_COLUMNS, packed_rows, shared_out
from tidemill.storage.database import table_sql
from tidemill.storage.database.errors import DRIVER_ERRORS, on_tables, translate
from tidemill.storage.database.pool import Connection, Pool, connection
from tidemill.storage.database.statements import load_statements

T = TypeVar("T")

_encode_log: Final = encoder_of(LOG_COLUMNS)
_encode_outbox: Final = encoder_of(OUTBOX_COLUMNS)

_SQL = load_statements(Path(__file__).with_name("commands.sql"))


class BatchTransaction:
    """One transaction over a set of lanes."""

    def __init__(
        self, borrowed: Connection, closed: ClosedGenerations, packs: PackFormat | None = None
    ) -> None:
        """`packs`: how the outbox is packed, where the open generation is; None: its rows are written."""
        self._borrowed = borrowed
        self._packs = packs
        self._lanes: Mapping[int, Lane] = {}
        self._progress: Mapping[int, Progress] = {}
        self._generations = closed
        self._closed = ClosedSet([])
        self._shapes = Shapes(borrowed)
        self._gen = 0
        self._in_packs = False
        self._wider: set[str] = set()

    def join(self, open_port: Callable[[Connection], T]) -> T:
        """See `SharedTransaction`: adapters are given the connection."""
        return open_port(self._borrowed)

    async def lock(self, claims: Sequence[Claim]) -> Locked:
        lanes = sorted(claim.lane.id for claim in claims)
        held = {row["lane"]: row["epoch"] for row in await self._borrowed.fetch(_SQL["lock_lanes"], lanes)}
        lost = frozenset(claim.lane.id for claim in claims if held.get(claim.lane.id) != claim.epoch)
        if lost:
            raise Fenced(lost)
        rows = await _progress_rows(self._borrowed, lanes)
        self._gen, self._in_packs = rows[0]["gen"], rows[0]["packs"]
        self._closed = await self._generations.beside(self._borrowed, self._gen, rows[0]["opened_at"])
        locked = _locked(rows)
        if self._in_packs:
            self._lanes = {claim.lane.id: claim.lane for claim in claims}
            self._progress = locked.progress
        return locked

    async def demand_going(self, claim: Claim) -> None:
        lane_id = claim.lane.id
        (row,) = await self._borrowed.fetch(_SQL["lane_standing"], lane_id)
        if row["code"] is not None:
            raise LaneHalted(lane_id, row["code"], row["detail"], name=claim.lane.name)
        if row["compared_epoch"] != row["epoch"]:
            raise NotCompared(lane_id, "since it was claimed or changed last", name=claim.lane.name)

    async def find(self, ids: Sequence[str], *, open_too: bool) -> dict[str, LoggedCommand]:
        wanted = dict(self._closed.candidates(ids))
        if open_too:
            wanted[self._gen] = ids
        # sorted: neighbours in the index
        places = sorted((gen, command_id) for gen, some in wanted.items() for command_id in some)
        if not places:
            return {}
        gens, candidates = zip(*places, strict=True)
        rows = await self._borrowed.fetch(_SQL["find_ids"], candidates, gens)
        return {str(row["command_id"]): _logged(row) for row in rows}

    async def append(
        self, table: TableShape, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        with on_tables():
            await self._copy(table.name, columns, rows, schema=table.schema or "public")

    async def closed_ranges(self, table: TableShape, first: datetime, last: datetime) -> list[ClosedRange]:
        rows = await self._borrowed.fetch(_SQL["closed_ranges"], plain_name(table), first, last)
        return [ClosedRange(*row) for row in rows]

    async def divert(
        self,
        table: TableShape,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
        starts: Sequence[datetime],
    ) -> None:
        name = plain_name(table).replace(".", "__")
        late = [(*row, start) for row, start in zip(rows, starts, strict=True)]
        try:
            async with self._borrowed.transaction():  # a savepoint: the cause is looked up after a failure
                await self._copy(name, (*columns, "tm_range_start"), late, schema="tm_late")
        except DRIVER_ERRORS as refused:
            unfit = await self._borrowed.fetchval(_SQL["late_unfit"], plain_name(table))
            if unfit:  # not the row's fault: it is neither rejected nor lost, the batch waits
                raise TransientError(f"{unfit} ({refused})") from refused
            with on_tables():
                raise

    async def load(self, state: State, keys: Sequence[str]) -> dict[str, Any]:
        with on_tables():
            rows = await self._borrowed.fetch(table_sql.select_states(state), keys)
        if not rows:
            return {}
        if rows[0][table_sql.WIDTH] > len(state.table.columns):
            self._wider.add(state.table.name)
        names = [column.name for column in state.table.columns]
        made, key_at = row_maker(state.model, names), names.index(state.key)
        return {row[key_at]: made(row) for row in rows}

    async def owners(
        self, state: State, unique: Unique, values: Sequence[tuple[Any, ...]]
    ) -> dict[tuple[Any, ...], str]:
        columns = [list(column) for column in zip(*values, strict=True)]
        with on_tables():
            rows = await self._borrowed.fetch(table_sql.select_owners(state, unique), *columns)
        return {tuple(row)[1:]: row[0] for row in rows}

    async def in_force(self, state: State, keys: Sequence[str]) -> set[str]:
        """Ask twice: a locking look finds nothing where a row was replaced, a plain one finds what is being deleted."""
        with on_tables():
            plain = await self._borrowed.fetch(table_sql.select_in_force(state, locked=False), keys)
            locked = await self._borrowed.fetch(table_sql.select_in_force(state, locked=True), keys)
        if plain != locked:
            raise TransientError(f"rows of {state.name} changed while they were looked up")
        return {row[0] for row in locked}

    async def referred_to(
        self, state: State, child: State, reference: Reference, keys: Sequence[str]
    ) -> set[str]:
        with on_tables():
            await self._borrowed.fetch(table_sql.lock_states(state), keys)
            rows = await self._borrowed.fetch(table_sql.select_referred_to(child, reference.column), keys)
        return {row[0] for row in rows}

    async def replace(self, state: State, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Update in place what moves no unique value; delete and insert the rest.

        An update in place would meet a unique value on its way from one row to another. In the order of keys, since
        neighbours share pages of table and index: an update takes a fifth less of the database's time than at random.
        """
        moved, keys = _moved(state, before, after), sorted(after)
        staying = {key: before[key] for key in keys if key in before and key not in moved}
        moving = {key: before[key].version for key in before if key in moved}
        new = [after[key] for key in keys if key not in staying]
        with on_tables():
            if staying:
                await self._update(state, staying, after)
            if new:
                await self._replace(state, moving, new)

    async def _update(self, state: State, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        old, new = list(before.values()), [after[key] for key in before]
        names = names_to_write(state, old, new)
        columns = [list(map(attrgetter(name), new)) for name in names]
        versions = [row.version for row in old]
        statement = table_sql.update_states(state, names)
        updated = await self._borrowed.fetch(statement, *columns, versions)
        if len(updated) != len(new):
            raise TransientError(f"rows of {state.name} changed under the batch")

    async def _replace(self, state: State, old: Mapping[str, int], new: Sequence[Any]) -> None:
        kept = Kept()
        if old:
            if state.table.name in self._wider:
                kept = await keep(self._borrowed, state, list(old))
            deleted = await self._borrowed.fetch(
                table_sql.delete_states(state), list(old), list(old.values())
            )
            if len(deleted) != len(old):
                raise TransientError(f"rows of {state.table.name} changed under the batch")
        columns = [column.name for column in state.table.columns]
        values = attrgetter(*columns)
        schema = state.table.schema or "public"
        try:
            await self._copy(state.table.name, columns, [values(each) for each in new], schema=schema)
        except asyncpg.UniqueViolationError as taken:
            guards = {state.table.primary_key.name, f"{state.table.name}_pkey"}
            guards |= {unique.constraint for unique in state.unique}
            if taken.constraint_name in guards:
                raise TransientError(f"another lane took {taken.detail or taken.constraint_name}") from taken
            raise
        await put_back(self._borrowed, state, kept)

    async def remove_superseded(
        self, facts: SupersededFacts, keys: Sequence[str], limit: int
    ) -> dict[str, int]:
        return await superseded.remove(self._borrowed, facts, keys, limit)

    async def log(self, rows: Sequence[LogRow]) -> None:
        try:
            await self._copy_made("log", LOG_COLUMNS, _encode_log(rows))
        except asyncpg.UniqueViolationError as repeated:
            raise RepeatedIds(str(repeated)) from repeated

    async def park(self, rows: Sequence[ParkedRow]) -> None:
        if rows:
            await self._copy("parked", ParkedRow._fields, rows)

    async def send(self, rows: Sequence[OutboxRow]) -> None:
        if self._packs is None or not self._lanes:
            await self._send_rows(rows)
            return
        few, many = shared_out(rows)
        await self._send_rows(few)
        if many:
            starts = await self._starts({row.lane for row in many})
            packed = packed_rows(self._packs, self._gen, self._lanes, starts, many)
            await self._copy("pack", PACK_COLUMNS, packed)

    async def _send_rows(self, rows: Sequence[OutboxRow]) -> None:
        if rows:
            await self._copy_made("outbox", OUTBOX_COLUMNS, _encode_outbox(rows))

    async def _starts(self, lanes: Collection[int]) -> dict[int, PackStart]:
        """Return where the packs of these lanes begin, with the events that were withdrawn from each."""
        forked = [lane_id for lane_id in lanes if self._progress[lane_id].timeline > 1]
        spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for row in await self._borrowed.fetch(_SQL["withdrawn_of_lanes"], forked) if forked else ():
            spans[row["lane"]].append((row["first"], row["last"]))
        return {
            lane_id: PackStart(at.sequence, at.chain, at.timeline, tuple(spans[lane_id]))
            for lane_id, at in self._progress.items()
        }

    async def append_ledger(self, rows: Sequence[LedgerRow]) -> None:
        await self._copy("batch", LedgerRow._fields, rows)
        opened = await self._borrowed.fetchrow(_SQL["open_generation"], self._shapes.copied)
        if opened is None or opened["gen"] != self._gen:
            raise GenerationClosed(f"generation {self._gen} was closed under the batch")
        if opened["packs"] != self._in_packs:
            raise GenerationClosed(f"the outbox of generation {self._gen} changed its form under the batch")
        self._shapes.compare(opened["types"])

    async def _copy(
        self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], *, schema: str = "tm"
    ) -> None:
        if schema != "tm":  # Tidemill's own tables are only altered by migrations, which only add
            # of late rows the service may write some columns only, and PostgreSQL asks for the right to the whole table
            lock: TableLock = "access share" if schema == "tm_late" else "row exclusive"
            await self._shapes.note(f"{table_sql.quoted(schema)}.{table_sql.quoted(table)}", lock=lock)
        await self._borrowed.copy_records_to_table(table, records=rows, columns=columns, schema_name=schema)

    async def _copy_made(self, table: str, columns: Sequence[CopyColumn], made: bytes) -> None:
        names = [column.name for column in columns]
        source: Any = memoryview(made)  # any buffer will do, but bytes would be the name of a file
        await self._borrowed.copy_to_table(
            table, source=source, columns=names, schema_name="tm", format="binary"
        )

    async def demand_blame(self, error: BaseException) -> None:
        """Return if `error` may be a value's fault, after the rollback. Raises `OutOfDate`.

        A value is refused, too, when it is sent in the form of its column's old type.
        """
        if isinstance(error, DRIVER_ERRORS) and isinstance(translate(error), DataError):
            await self._shapes.demand_unchanged()


@asynccontextmanager
async def batch_transaction(
    pool: Pool, closed: ClosedGenerations, packs: PackFormat | None = None
) -> AsyncIterator[BatchTransaction]:
    """Open a transaction; leaving the block commits.

    Raises:
        CommitUnknown: the answer to COMMIT is lost. What else the driver raises is translated.
    """
    async with connection(pool) as borrowed:
        transaction = borrowed.transaction()
        await transaction.start()
        batch = BatchTransaction(borrowed, closed, packs)
        try:
            yield batch
        except BaseException as error:
            with contextlib.suppress(*DRIVER_ERRORS):  # a broken connection has rolled back already
                await transaction.rollback()
            await batch.demand_blame(error)
            raise
        try:
            await transaction.commit()
        except DRIVER_ERRORS as error:
            meaning = translate(error)
            if isinstance(meaning, Unavailable):
                raise CommitUnknown(f"the answer to COMMIT is lost: {meaning}") from error
            raise meaning from error


async def read_progress(borrowed: Connection, lanes: Sequence[int]) -> Locked:
    """Return the progress of locked lanes, the open generation, and the server's clock.

    Raises:
        ContractError: a lane has no ledger row in the open generation.
    """
    return _locked(await _progress_rows(borrowed, lanes))


async def _progress_rows(borrowed: Connection, lanes: Sequence[int]) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await borrowed.fetch(_SQL["lane_progress"], lanes)
    if len(rows) != len(lanes):
        missing = sorted(set(lanes) - {row["lane"] for row in rows})
        raise ContractError(
            f"lanes {missing} have no ledger", code=ErrorCode.NOT_CREATED, lanes=tuple(missing)
        )
    return rows


def _locked(rows: Sequence[asyncpg.Record]) -> Locked:
    return Locked(rows[0]["gen"], rows[-1]["now"], {row["lane"]: _progress(row) for row in rows})


def _progress(row: asyncpg.Record) -> Progress:
    anchor = None if row["anchor_offset"] is None else Anchor(row["anchor_offset"], row["anchor_checksum"])
    return Progress(
        batch=row["batch"],
        next_offset=row["to_offset"],
        anchor=anchor,
        position=row["position"],
        sequence=row["sequence"],
        chain=row["chain"],
        timeline=row["timeline"],
        at=row["at"],
    )


def _moved(state: State, before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Return the keys of rows that moved a unique value."""
    moved: set[str] = set()
    for unique in state.unique:
        value_of = unique.of
        moved.update([key for key, row in before.items() if value_of(row) != value_of(after[key])])
    return moved


def _logged(row: asyncpg.Record) -> LoggedCommand:
    command_id, *rest = row
    return LoggedCommand(str(command_id), *rest)
