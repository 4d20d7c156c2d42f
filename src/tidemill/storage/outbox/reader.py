"""The outbox on TimescaleDB: `outbox.ports.OutboxReader` and `OutboxGenerations`, `admin.ports.OutboxHistory`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg

from tidemill.domain.errors import ContractError, Fenced
from tidemill.domain.identity import event_id
from tidemill.domain.lane import Claim
from tidemill.outbox.pack import Pack
from tidemill.outbox.ports import NOTHING_PUBLISHED, Fork, LaneEnd, OutboxItem, ParkedRecord, Published
from tidemill.storage.database.header_json import headers_of
from tidemill.storage.database.pool import Lender, connection
from tidemill.storage.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("outbox.sql"))


class OutboxDatabase:
    """The database of the relay."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool
        self._in_rows: set[int] = set()
        """The lanes of which rows were found last: they are asked for first."""

    async def read(
        self, lane_id: int, after: int, limit: int, max_bytes: int
    ) -> list[OutboxItem] | list[Pack]:
        if lane_id in self._in_rows and (rows := await self._rows(lane_id, after, limit, max_bytes)):
            return rows
        next_ones = await self._fetch("read_packs", lane_id, after, limit, max_bytes)
        if next_ones[0]["rows_first"]:
            self._in_rows.add(lane_id)
            return await self._rows(lane_id, after, limit, max_bytes)
        packs = _dense([Pack._make(tuple(row)[1:]) for row in next_ones if row["position"] is not None])
        if packs:  # a lane that has nothing at the moment goes on as before
            self._in_rows.discard(lane_id)
        return packs

    async def _rows(self, lane_id: int, after: int, limit: int, max_bytes: int) -> list[OutboxItem]:
        return [
            OutboxItem._make(row)
            for row in await self._fetch("read_outbox", lane_id, after, limit, max_bytes)
        ]

    async def parked(self, lane_id: int, positions: Sequence[int], max_bytes: int) -> dict[int, ParkedRecord]:
        rows = await self._fetch("parked_records", lane_id, list(positions), max_bytes)
        return {row["position"]: _parked(row) for row in rows}

    async def pending(self, positions: Mapping[int, int]) -> dict[int, int]:
        rows = await self._fetch("pending_lanes", list(positions), list(positions.values()))
        return {row["lane"]: row["newest"] for row in rows}

    async def published(self, lane_id: int) -> Published:
        rows = await self._fetch("published", lane_id)
        return Published._make(rows[0]) if rows else NOTHING_PUBLISHED

    async def mark(self, marks: Mapping[int, Published]) -> None:
        positions = [mark.position for mark in marks.values()]
        sequences = [mark.sequence for mark in marks.values()]
        ids = [mark.event_id for mark in marks.values()]
        await self._fetch("mark_published", list(marks), positions, sequences, ids)

    async def end(self, claim: Claim) -> LaneEnd:
        rows = await self._fetch("lane_end", claim.lane.id)
        if not rows:
            raise ContractError(f"lane {claim.lane.id} of {claim.lane.aggregate} has no ledger: restore it")
        if rows[0]["epoch"] != claim.epoch:
            raise Fenced(frozenset({claim.lane.id}))
        return await self.end_with_history(claim.lane.id, LaneEnd(*tuple(rows[0])[1:]))

    async def end_with_history(self, lane_id: int, end: LaneEnd) -> LaneEnd:
        forks = await self._fetch("forks", lane_id) if end.timeline > 1 else ()
        accepted = await self._fetch("accepted_records", lane_id)
        return end._replace(
            forks=tuple(Fork._make(row) for row in forks),
            accepted={row["topic"]: row["accepted_offset"] for row in accepted},
        )

    async def events_at(self, lane_id: int, position: int) -> dict[int, str] | None:
        rows = await self._fetch("events_at", lane_id, position)
        if not rows:
            return None
        events = (row for row in rows if row["has_event"])
        return {row["sequence"]: event_id(row["command_id"], row["item"] + 1) for row in events}

    async def halt(self, claim: Claim, code: str, detail: str) -> None:
        await self._fetch("halt_lane", claim.lane.id, claim.epoch, code, detail)

    async def halted(self, lanes: Sequence[int]) -> frozenset[int]:
        return frozenset(row["lane"] for row in await self._fetch("halted_lanes", list(lanes)))

    async def note_sent(self) -> None:
        await self._fetch("note_sent")

    async def droppable(self, keep: timedelta) -> list[int]:
        return [row["gen"] for row in await self._fetch("droppable_generations", keep)]

    async def drop(self, generation: int) -> None:
        await self._fetch("drop_outbox_generation", generation)

    async def _fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        async with connection(self._pool) as borrowed:
            return await borrowed.fetch(_SQL[statement], *arguments)


def _dense(packs: list[Pack]) -> list[Pack]:
    """Return the packs at the front that follow each other: between others there are rows."""
    for at, (before, pack) in enumerate(pairwise(packs), start=1):
        if pack.first_position != before.position + 1:
            return packs[:at]
    return packs


def _parked(row: asyncpg.Record) -> ParkedRecord:
    headers = headers_of(row["headers"])
    return ParkedRecord(
        row["position"],
        row["topic"],
        row["partition"],
        row["record_offset"],
        row["key"],
        row["value"],
        headers,
        row["code"],
        row["detail"],
        row["value_bytes"],
        row["bare"],
    )
