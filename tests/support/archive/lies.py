"""An archiver that lies: its files are not what they are said to be, what it reports is always what was asked for."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.archive.site import Archive
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent, ArchivalFile, ArchivalResult

MORE_COLUMNS: Final = """
alter table public.market_data
  add column big bigint, add column big2 bigint,
  add column amount numeric(18,4), add column amount2 numeric(18,4),
  add column seen timestamptz, add column seen2 timestamptz,
  add column other_id uuid, add column doc jsonb, add column doc2 jsonb, add column raw bytea, add column raw2 bytea;
call tm.prepare_late('public.market_data')
"""

_VALUES: Final = """
update public.market_data set open = price + 0.5, big = hashtext(command_id::text), big2 = hashtext(symbol || price),
  amount = price::numeric / 3, amount2 = -price::numeric / 7,
  seen = time + interval '1 ms', seen2 = time - interval '1 s',
  other_id = gen_random_uuid(), doc = jsonb_build_object('p', price), doc2 = jsonb_build_array(symbol, price),
  raw = uuid_send(command_id), raw2 = float8send(price)
"""


class Pair(NamedTuple):
    """Two columns of one type."""

    one: str
    other: str


PAIRS: Final[Mapping[int, Pair]] = {
    2001: Pair("symbol", "source"),
    2002: Pair("price", "open"),
    2003: Pair("big", "big2"),
    2004: Pair("amount", "amount2"),
    2005: Pair("seen", "seen2"),
    2006: Pair("command_id", "other_id"),
    2007: Pair("doc", "doc2"),
    2008: Pair("raw", "raw2"),
}
"""Year of a chunk -> what is lied about in it: text, float8, int8, numeric, timestamptz, uuid, jsonb, bytea."""


@dataclass(frozen=True)
class Copied:
    """An honest copy of one chunk: the file, and what was said of it."""

    path: Path
    told: ArchivalResult
    pair: Pair

    @property
    def table(self) -> pa.Table:
        return pq.ParquetFile(self.path).read()

    def rewritten(self, table: pa.Table) -> ArchivalResult:
        """Put another table in its place, as a writer without checksums does."""
        plainly(table, self.path)
        return self.as_it_is()

    def as_it_is(self) -> ArchivalResult:
        """Tell the file's true size and hash: it is only its rows that are not what is said."""
        data = self.path.read_bytes()
        return self.naming(str(self.path), data)

    def naming(self, path: str, data: bytes) -> ArchivalResult:
        """Tell of one file with these bytes; count and digest stay what was asked for."""
        sha256, rows = hashlib.sha256(data).hexdigest(), self.told.row_count or 0
        file = ArchivalFile(path=path, size_bytes=len(data), row_count=rows, sha256=sha256)
        return self.told.model_copy(update={"files": (file,)})


def plainly(table: pa.Table, path: Path) -> None:
    """Write a table so that its values' bytes stand in the file as they are."""
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=False)


async def fill(world: Archive, years: Iterable[int] = PAIRS) -> None:
    """Make a chunk for every pair, with values in every column."""
    await world.pool.execute(MORE_COLUMNS)
    await world.fill(*years)
    await world.pool.execute(_VALUES)


def copied(world: Archive, event: ArchivalEvent) -> tuple[ArchivalConfirmation, list[Copied]]:
    """Copy what an event asks for honestly; return what is to be said, and the copies, oldest first."""
    honest = world.copy(event)
    pairs = [PAIRS[chunk.range_start.year + (chunk.range_start.month > 6)] for chunk in event.chunks]
    copies = [
        Copied(Path(result.files[0].path), result, pair)
        for result, pair in zip(honest.chunks, pairs, strict=True)
    ]
    return honest, copies


class Once:
    """A moment of an archive that is come back to, so that each lie is told of the same copies."""

    def __init__(self, world: Archive) -> None:
        """Nothing is kept before `keep`."""
        self._world = world
        self._saved = world.lake.with_name("saved")

    async def keep(self) -> None:
        """Keep the registry and the lake as they are now."""
        await self._world.pool.execute("create table public.saved as table tm.archive")
        shutil.copytree(self._world.lake, self._saved)

    async def come_back(self) -> None:
        """Put them back, whatever was said, set aside and done to files since."""
        async with self._world.pool.acquire() as connection, connection.transaction():
            await connection.execute("delete from tm.archive")
            await connection.execute("insert into tm.archive select * from public.saved")
        shutil.rmtree(self._world.lake)
        shutil.copytree(self._saved, self._world.lake)


# --- the lies: what each does to a copy, and what it says then ---

Lie = Callable[[Copied], ArchivalResult]


def no_file(copy: Copied) -> ArchivalResult:
    copy.path.unlink()
    return copy.told


def truncated(copy: Copied) -> ArchivalResult:
    """The file ends where the column begins."""
    column = _column(copy.path, copy.pair.one)
    copy.path.write_bytes(copy.path.read_bytes()[: column.data_page_offset + 8])
    return copy.as_it_is()


def rotten(copy: Copied) -> ArchivalResult:
    """A bit changed since the file was hashed."""
    _flip(copy.path, copy.pair.one)
    return copy.told


def flipped(copy: Copied) -> ArchivalResult:
    """A bit changed before the file was hashed; its page has a checksum."""
    _flip(copy.path, copy.pair.one)
    return copy.as_it_is()


def flipped_value(copy: Copied) -> ArchivalResult:
    """The lowest bit of one value changed, and nothing in the file can tell."""
    plainly(copy.table, copy.path)
    _flip(copy.path, copy.pair.one)
    return copy.as_it_is()


def columns_swapped(copy: Copied) -> ArchivalResult:
    table, (one, other) = copy.table, copy.pair
    return copy.rewritten(_with(_with(table, one, table[other]), other, table[one]))


def row_doubled(copy: Copied) -> ArchivalResult:
    table = copy.table
    return copy.rewritten(pa.concat_tables([table, table.slice(4, 1)]))


def row_doubled_for_another(copy: Copied) -> ArchivalResult:
    """The count is right."""
    table = copy.table
    return copy.rewritten(pa.concat_tables([table.slice(1), table.slice(4, 1)]))


def wrong_value(copy: Copied) -> ArchivalResult:
    """Right count, right reported digest."""
    table, values = copy.table, copy.table[copy.pair.one].to_pylist()
    values[5] = copy.table[copy.pair.other].to_pylist()[5]
    return copy.rewritten(_with(table, copy.pair.one, pa.array(values, table[copy.pair.one].type)))


def rows_swapped(copy: Copied) -> ArchivalResult:
    """Two rows' values changed places within one column."""
    table, values = copy.table, copy.table[copy.pair.one].to_pylist()
    first = next(number for number, value in enumerate(values) if value != values[-1])
    values[first], values[-1] = values[-1], values[first]
    return copy.rewritten(_with(table, copy.pair.one, pa.array(values, table[copy.pair.one].type)))


def value_lost(copy: Copied) -> ArchivalResult:
    """A value became NULL."""
    table, values = copy.table, copy.table[copy.pair.one].to_pylist()
    values[5] = None
    schema = pa.schema([field.with_nullable(True) for field in table.schema])
    column = pa.array(values, table[copy.pair.one].type)
    return copy.rewritten(_with(table.cast(schema), copy.pair.one, column))


def column_left_out(copy: Copied) -> ArchivalResult:
    return copy.rewritten(copy.table.drop_columns([copy.pair.one]))


def _with(table: pa.Table, name: str, values: pa.ChunkedArray | pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)


def _column(path: Path, name: str) -> pq.ColumnChunkMetaData:
    file = pq.ParquetFile(path)
    return file.metadata.row_group(0).column(file.schema_arrow.get_field_index(name))


def _flip(path: Path, name: str) -> None:
    """Flip a bit of the column's last byte, which belongs to its last row's value if the file is plain."""
    column = _column(path, name)
    start = (column.dictionary_page_offset if column.has_dictionary_page else None) or column.data_page_offset
    data = bytearray(path.read_bytes())
    data[start + column.total_compressed_size - 1] ^= 1
    path.write_bytes(data)
