"""A hypertable for testing an archiver: a chunk per day, rows of every type, and changes of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from tidemill.domain.archive.slices import SliceId
from tidemill.storage.database.pool import Pool, connection
from tidemill.storage.retention.archive import late_table, quoted_name
from tidemill.storage.retention.digest_sql import quoted
from tidemill_devkit.archiver_conformance import samples

FIRST_DAY: Final = datetime(2020, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)


class ScratchTable:
    """A table in its own database. `name`: `schema.table`. Every call may raise `Unavailable`."""

    def __init__(self, pool: Pool, name: str) -> None:
        """`pool`: of the login that migrates."""
        self._pool = pool
        self.name = name

    async def create(self) -> None:
        """Create the hypertable, and the table for its late rows; archivers may read both."""
        table = quoted_name(self.name)
        await self._run(
            *samples.PREPARATION,
            samples.create_sql(table),
            f"select create_hypertable('{table}', '{samples.TIME_COLUMN}', chunk_time_interval => interval '1 day')",
            f"call tm.prepare_late('{table}')",
        )

    def day(self, number: int, generation: int = 1) -> SliceId:
        """Return the slice of a day, counted from 0."""
        start = FIRST_DAY + number * _DAY
        return SliceId(self.name, start, start + _DAY, generation)

    async def fill(self, number: int) -> None:
        """Write the rows of a day."""
        await self._run(
            f"insert into {quoted_name(self.name)} ({samples.column_list()}) {samples.rows_sql(self._start(number))}"
        )

    async def fill_late(self, number: int, generation: int) -> None:
        """Write late rows of a day, as a batch diverts them, in the slice that is to be archived."""
        start = self._start(number)
        rows = samples.rows_sql(f"{start} + interval '12 hours'")
        await self._run(
            f"insert into {late_table(self.name)} ({samples.column_list()}, tm_range_start, tm_generation) "
            f"select rows.*, {start}, {generation} from ({rows}) as rows"
        )

    async def empty(self, number: int) -> None:
        """Make the chunk of a day, without a row."""
        await self.fill(number)
        await self._run(f"delete from {quoted_name(self.name)} where {self._within(number)}")

    async def change(self, number: int) -> None:
        """Change one value of a day, as an external writer would."""
        column = quoted(next(each.column for each in samples.SAMPLES if each.pg_type == "text"))
        where = f"{self._within(number)} and {column} = 'NULL'"
        await self._run(f"update {quoted_name(self.name)} set {column} = 'changed' where {where}")

    def _start(self, number: int) -> str:
        return f"timestamptz '{self.day(number).start.isoformat()}'"

    def _within(self, number: int) -> str:
        time, day = quoted(samples.TIME_COLUMN), self.day(number)
        return f"{time} >= '{day.start.isoformat()}' and {time} < '{day.end.isoformat()}'"

    async def _run(self, *statements: str) -> None:
        async with connection(self._pool) as borrowed, borrowed.transaction():
            for statement in statements:
                await borrowed.execute(statement)
