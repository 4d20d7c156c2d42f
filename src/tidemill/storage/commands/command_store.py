"""Claims, halts and trials on TimescaleDB: `commands.ports.CommandStore`."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg

from tidemill.commands.superseded_ports import OwnerOfFacts, SupersededFacts, TablePart
from tidemill.commands.version_wait import next_wait
from tidemill.commands.waits import Newer, Wait
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import ContractError, Fenced, TransientError
from tidemill.domain.headers import Headers
from tidemill.domain.lane import Claim, Lane, Progress, StreamTopics
from tidemill.domain.state import Expiry, State
from tidemill.domain.table_shape import TableShape
from tidemill.outbox.ports import PackFormat
from tidemill.storage.commands import superseded
from tidemill.storage.commands.generations import ClosedGenerations
from tidemill.storage.commands.unit_of_work import BatchTransaction, batch_transaction, read_progress
from tidemill.storage.database import table_sql
from tidemill.storage.database.errors import on_tables
from tidemill.storage.database.header_json import headers_text
from tidemill.storage.database.pool import Connection, Pool, connection
from tidemill.storage.database.pool_parts import DividedPool
from tidemill.storage.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("commands.sql"))

OWNER_WAIT_S: Final = 2.0
"""How long a claim waits for the owner before it ends the owner's backend."""

_CAUTIOUS_AFTER_CLAIMS: Final = 3


class CommandDatabase:
    """The database of the intake."""

    def __init__(
        self,
        pool: Pool | DividedPool,
        closed: ClosedGenerations | None = None,
        *,
        packs: PackFormat | None = None,
        owner_wait_s: float = OWNER_WAIT_S,
    ) -> None:
        """`pool`: its `application_name` must be the owner that claims, so that a later claim can find it.

        DividedPool where the streams of a process share it.
        `closed`: the filters that the streams of a process share; without them ids are looked up in every generation.
        `packs`: how the outbox of the stream is packed, where its generation is; None: always in rows.
        """
        self._pool = pool if isinstance(pool, DividedPool) else DividedPool(pool)
        self._owner_wait_s = owner_wait_s
        self._closed = closed or ClosedGenerations()
        self._packs = packs

    def headers_text(self, headers: Headers) -> str:
        return headers_text(headers)

    async def expired(
        self, state: State, ending: Expiry, after: tuple[datetime, str], limit: int
    ) -> list[tuple[datetime, str]]:
        async with connection(self._pool.questions) as borrowed:
            with on_tables():
                rows = await borrowed.fetch(table_sql.select_expired(state, ending.column), *after, limit)
        return [(row[0], row[1]) for row in rows]

    async def removable_parts(self, table: TableShape) -> list[TablePart]:
        async with connection(self._pool.questions) as borrowed:
            return await superseded.removable_parts(borrowed, table)

    async def owners_of_superseded(
        self, facts: SupersededFacts, after: str, limit: int
    ) -> list[OwnerOfFacts]:
        async with connection(self._pool.questions) as borrowed:
            return await superseded.owners(borrowed, facts, after, limit)

    def unit_of_work(self) -> AbstractAsyncContextManager[BatchTransaction]:
        return batch_transaction(self._pool.pool, self._closed, self._packs)

    async def claim(self, aggregate: str, partitions: Sequence[int], owner: str) -> list[Claim]:
        async with connection(self._pool.claims) as borrowed, borrowed.transaction():
            rows = await self._lock(borrowed, aggregate, list(partitions))
            if len(rows) != len(set(partitions)):
                raise ContractError(
                    f"{aggregate} has lanes that were never created",
                    code=ErrorCode.NOT_CREATED,
                    aggregate=aggregate,
                )
            lanes = [row["lane"] for row in rows]
            locked = await read_progress(borrowed, lanes)
            fruitless = [_claims_without_progress(row, locked.progress[row["lane"]], owner) for row in rows]
            batches = [locked.progress[lane_id].batch for lane_id in lanes]
            offsets = [locked.progress[lane_id].next_offset for lane_id in lanes]
            claimed = await borrowed.fetch(_SQL["claim_lanes"], owner, lanes, batches, offsets, fruitless)
            epochs = {row["lane"]: row["epoch"] for row in claimed}
            return [
                _claim(row, epochs[row["lane"]], locked.progress[row["lane"]], count)
                for row, count in zip(rows, fruitless, strict=True)
            ]

    async def _lock(
        self, borrowed: Connection, aggregate: str, partitions: list[int]
    ) -> list[asyncpg.Record]:
        """Wait for the owners a little, then end the backend that blocks: a frozen one would block without end."""
        locking = asyncio.ensure_future(borrowed.fetch(_SQL["lanes_to_claim"], aggregate, partitions))
        while True:
            done, _ = await asyncio.wait({locking}, timeout=self._owner_wait_s)
            if done:
                return locking.result()
            try:
                await self._unblock(borrowed.get_server_pid(), aggregate)
            except BaseException:
                locking.cancel()
                await asyncio.wait({locking})  # a connection takes one statement at a time, the rollback too
                raise

    async def _unblock(self, waiting: int, aggregate: str) -> None:
        async with connection(self._pool.rescues) as other:
            blockers = await other.fetch(_SQL["blockers"], waiting)
            external = [row for row in blockers if not row["is_owner"]]
            if external:
                raise TransientError(
                    f"lanes of {aggregate} are locked by {external[0]['application_name'] or 'an unnamed session'} "
                    f"(backend {external[0]['pid']}), which owns no lane: end that transaction"
                )
            for row in blockers:
                await other.execute(_SQL["end_backend"], row["pid"])

    async def compared(self, claims: Sequence[Claim], *, idle: Collection[int] = ()) -> None:
        lanes, epochs = [claim.lane.id for claim in claims], [claim.epoch for claim in claims]
        async with connection(self._pool.questions) as borrowed:
            await borrowed.execute(
                _SQL["lanes_compared"], lanes, epochs, [lane_id in idle for lane_id in lanes]
            )

    async def release(self, claims: Sequence[Claim]) -> None:
        lanes, epochs = [claim.lane.id for claim in claims], [claim.epoch for claim in claims]
        async with connection(self._pool.questions) as borrowed:
            await borrowed.execute(_SQL["release_lanes"], lanes, epochs)

    async def halted(self, lanes: Sequence[int]) -> dict[int, tuple[str, str]]:
        async with connection(self._pool.questions) as borrowed:
            rows = await borrowed.fetch(_SQL["halted_lanes"], list(lanes))
            return {row["lane"]: (row["code"], row["detail"]) for row in rows}

    async def halt(self, claim: Claim, code: str, detail: str) -> None:
        async with connection(self._pool.questions) as borrowed:
            await borrowed.execute(_SQL["halt_lane"], claim.lane.id, claim.epoch, code, detail)

    async def forget_attempts(self, claim: Claim) -> None:
        async with connection(self._pool.questions) as borrowed:
            await borrowed.execute(_SQL["clear_attempts"], claim.lane.id, claim.epoch)

    async def wait(self, claim: Claim, newer: Newer, at_most: timedelta) -> Wait:
        lane_id = claim.lane.id
        async with connection(self._pool.questions) as borrowed, borrowed.transaction():
            row = await borrowed.fetchrow(_SQL["wait_of_lane"], lane_id, claim.epoch)
            if row is None:
                raise Fenced(frozenset({lane_id}))
            before = _wait(row)
            wait = next_wait(before, newer, row["now"], at_most)
            if wait != before:
                await borrowed.execute(_SQL["keep_wait"], lane_id, *wait.newer, *wait[1:])
            await borrowed.execute(_SQL["clear_attempts"], lane_id, claim.epoch)
            return wait

    async def waiting(self, lanes: Sequence[int]) -> frozenset[int]:
        async with connection(self._pool.questions) as borrowed:
            rows = await borrowed.fetch(_SQL["waiting_lanes"], list(lanes))
            return frozenset(row["lane"] for row in rows)

    async def count_attempt(self, claim: Claim, offset: int) -> int:
        async with connection(self._pool.questions) as borrowed:
            count: int | None = await borrowed.fetchval(
                _SQL["count_attempt"], claim.lane.id, claim.epoch, offset
            )
            if count is None:
                raise Fenced(frozenset({claim.lane.id}))
            return count


def _claims_without_progress(row: asyncpg.Record, progress: Progress, owner: str) -> int:
    """Return how many claims in a row ended without consuming a record: no more than make a lane cautious.

    A clean release leaves no `claimed_batch`, and an owner that claims its own lane again has not ended: that is not
    counted. Progress is measured by offsets, since other rows are written to the ledger, too. The offset may be of an
    earlier claim than the last, if a process of 0.1.0 made that one: so either may show that there was no progress.
    """
    if row["owner"] == owner:
        return int(row["barren"])
    stuck = row["claimed_offset"] == progress.next_offset or row["claimed_batch"] == progress.batch
    if row["claimed_batch"] is None or not stuck:
        return 0
    return min(int(row["barren"]) + 1, _CAUTIOUS_AFTER_CLAIMS)


def _wait(row: asyncpg.Record) -> Wait | None:
    if row["record_offset"] is None:
        return None
    newer = Newer(row["record_offset"], row["schema"], row["type"], row["service"], row["detail"])
    return Wait(newer, row["since"], row["until"], row["over_at"], row["reason"])


def _claim(row: asyncpg.Record, epoch: int, progress: Progress, fruitless: int) -> Claim:
    topics = StreamTopics(
        row["command_topic"], row["event_topic"], row["outcome_topic"], row["dead_letter_topic"]
    )
    lane = Lane(row["lane"], row["aggregate"], row["partition"], row["partitions"], topics)
    return Claim(lane, epoch, progress, cautious=fruitless >= _CAUTIOUS_AFTER_CLAIMS)
