"""What tests of an operator's verbs share: the archive brought to where the verb is given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.archive.site import TABLE, Archive
from tidemill.admin.archive.restore import Restored, Restorer
from tidemill.domain.lane import Claim
from tidemill.lakehouse.copy_reader import LakeCopies
from tidemill.lakehouse.reader import LakeReader
from tidemill.retention.operator_actions import Operator
from tidemill.retention.restore_plan import RestorableRange, ranges_back
from tidemill.retention.slices import Slice
from tidemill.storage.retention.restore_work import RestoreDatabase

ADA = Operator("ada", "a law suit")
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
END = datetime(2020, 1, 1, tzinfo=UTC)
MONTH = timedelta(days=30)
CONTENT = "select md5(string_agg(md5(each::text), '' order by command_id)) from public.market_data each"


def owned(world: Archive) -> Claim:
    assert world.claim is not None
    return world.claim


def copies(world: Archive) -> LakeCopies:
    return LakeCopies(LakeReader([str(world.lake)]))


async def archived(world: Archive, *years: int) -> str:
    """Archive these years' rows; return what they were."""
    await world.fill(*years)
    content = str(await world.pool.fetchval(CONTENT))
    await around(world)
    assert set(await world.states()) == {"dropped"}
    return content


async def around(world: Archive) -> None:
    """Go once from seal to drop."""
    await world.settle()
    await world.answer()
    await world.settle()


async def ranges(world: Archive) -> list[RestorableRange]:
    return ranges_back(await world.store.facts(TABLE), BEGINNING, END)


async def bring(world: Archive, back: RestorableRange, heard: list[int] | None = None) -> Restored:
    async def claim() -> Claim:
        return owned(world)

    way = Restorer(RestoreDatabase(world.pool), copies(world), claim, "ada")
    return await way.bring(world.policy, back, MONTH, (heard if heard is not None else []).append)


async def late_row(world: Archive, days: int = 3) -> None:
    """What a batch does with a row for the first closed range."""
    await world.pool.execute(
        """
        insert into tm_late.public__market_data (time, symbol, price, source, command_id, tm_range_start)
        select range_start + $1::interval, 'L', 1.5, 'late', gen_random_uuid(), range_start
        from tm.archive order by range_start limit 1
        """,
        timedelta(days=days),
    )


async def one(world: Archive) -> Slice:
    (which,) = await world.slices()
    return which


async def verified_only(world: Archive) -> None:
    """Verify, with a reader in the way of every drop."""
    async with world.pool.acquire() as reader, reader.transaction():
        await reader.fetch("select count(*) from public.market_data")
        await world.settle()
    assert set(await world.states()) == {"verified"}


def file_of(which: Slice) -> Path:
    copy = which.copy
    assert copy is not None
    return Path(copy.location) / copy.files[0].path


def flip(file: Path) -> None:
    """Turn one bit among a file's rows."""
    content = bytearray(file.read_bytes())
    content[64] ^= 1
    file.write_bytes(content)
