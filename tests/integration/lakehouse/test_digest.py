"""PostgreSQL and Arrow compute the same digest, on every type there is a rule for."""

from collections.abc import Sequence

from tests.support import fidelity
from tests.support.fidelity import SAMPLES
from tidemill.domain.archive import LakeColumn, Measured
from tidemill.lakehouse.arrow import conform
from tidemill.lakehouse.digest import Digest
from tidemill.storage import arrow_reader, digesting, measuring
from tidemill.storage.pool import Connection


async def both_sides(
    database: str, session: Connection, columns: Sequence[LakeColumn], time_column: str, source: str
) -> tuple[Measured, Measured]:
    async with session.transaction():
        theirs = await measuring.measure(session, columns, time_column, source)
    ours = Digest(columns, time_column)
    for batch in arrow_reader.read(database, digesting.read_sql(columns, source)):
        ours.add(conform(batch, columns))
    return theirs, ours.measured()


async def test_this_database_computes_the_published_vectors(session: Connection) -> None:
    async with session.transaction():
        await measuring.check_vectors(session)


async def test_every_type_is_held_as_the_rules_say(session: Connection) -> None:
    await session.execute(fidelity.create_sql("every_type"))
    async with session.transaction():
        shape = await measuring.columns_of(session, "public.every_type")
    assert not shape.refused
    held = {column.name: "text" if column.by_text else str(column.type) for column in shape.columns}
    assert held == {"at": "instant"} | {sample.name: sample.lake for sample in SAMPLES}


async def test_every_type_digests_alike_on_both_sides(database: str, session: Connection) -> None:
    await session.execute(fidelity.create_sql("every_type"))
    for statement in fidelity.insert_sql("every_type"):
        await session.execute(statement)
    async with session.transaction():
        columns = (await measuring.columns_of(session, "public.every_type")).columns
    for column in columns[1:]:  # each by itself: a difference names its type
        pair = (columns[0], column)
        theirs, ours = await both_sides(database, session, pair, "at", "public.every_type")
        assert theirs == ours, column
    theirs, ours = await both_sides(database, session, columns, "at", "public.every_type")
    assert theirs == ours
