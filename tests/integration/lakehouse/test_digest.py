"""PostgreSQL and Arrow compute the same digest, on every type there is a rule for."""

from collections.abc import Sequence

from tests.support.archive import fidelity
from tests.support.archive.fidelity import SAMPLES
from tidemill.domain.archive.slices import LakeColumn, Measured
from tidemill.lakehouse.arrow import conform
from tidemill.lakehouse.digest import Digest
from tidemill.storage.database.pool import Connection
from tidemill.storage.retention import arrow_reader, digest_sql, measurement


async def both_sides(
    database: str, session: Connection, columns: Sequence[LakeColumn], time_column: str, source: str
) -> tuple[Measured, Measured]:
    async with session.transaction():
        theirs = await measurement.measure(session, columns, time_column, source)
    ours = Digest(columns, time_column)
    for batch in arrow_reader.read(database, digest_sql.read_sql(columns, source)):
        ours.add(conform(batch, columns))
    return theirs, ours.measured()


async def test_this_database_computes_the_published_vectors(session: Connection) -> None:
    async with session.transaction():
        await measurement.check_vectors(session)


async def test_every_type_is_held_as_the_rules_say(session: Connection) -> None:
    await session.execute(fidelity.create_sql("every_type"))
    async with session.transaction():
        shape = await measurement.columns_of(session, "public.every_type")
    assert not shape.refused
    held = {column.name: "text" if column.by_text else str(column.type) for column in shape.columns}
    assert held == {"at": "instant"} | {sample.name: sample.lake for sample in SAMPLES}


async def test_every_type_digests_alike_on_both_sides(database: str, session: Connection) -> None:
    await session.execute(fidelity.create_sql("every_type"))
    for statement in fidelity.insert_sql("every_type"):
        await session.execute(statement)
    async with session.transaction():
        columns = (await measurement.columns_of(session, "public.every_type")).columns
    for column in columns[1:]:  # each by itself: a difference names its type
        pair = (columns[0], column)
        theirs, ours = await both_sides(database, session, pair, "at", "public.every_type")
        assert theirs == ours, column
    theirs, ours = await both_sides(database, session, columns, "at", "public.every_type")
    assert theirs == ours
