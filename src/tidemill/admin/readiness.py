"""Whether a deployment is served: every lane has an owner, and every read model has begun.

A process that has started is not ready yet: it joins groups, claims lanes and compares them with their topics first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final, TypeVar

from tidemill.admin.progress import ReadModelStatus, StreamStatus
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import TidemillError, TransientError

LOOK_EVERY_S: Final = 0.5

_BEFORE_MIGRATIONS: Final = (ErrorCode.NOT_MIGRATED, ErrorCode.DATABASE_DIFFERS)

T = TypeVar("T")


def unready(streams: Sequence[StreamStatus], read_models: Sequence[ReadModelStatus]) -> list[str]:
    """Return what of a deployment's contexts is not served yet, for people; nothing once all is.

    The archive's stream is none of them: it is served only where a lake is set.
    """
    if not streams:
        return ["no lanes: topics are not created"]
    lanes = [
        f"{stream.aggregate}: {stream.owned} of {stream.lanes} lanes are owned"
        for stream in streams
        if stream.owned < stream.lanes
    ]
    return lanes + [f"{model.projection}: never started" for model in read_models if not model.started]


async def until_ready(
    read: Callable[[], Awaitable[T]],
    is_ready: Callable[[T], bool],
    within_s: float,
    *,
    now_s: Callable[[], float] = monotonic,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> T:
    """Read until it is ready, or `within_s` seconds have passed; return what was read last.

    Servers that are unavailable and migrations that are missing are waited for, since a process that is starting may
    bring them: their error is raised if it is still so in the end, every other one at once.
    """
    end_s = now_s() + within_s
    while True:
        try:
            seen = await read()
        except TidemillError as error:
            if now_s() >= end_s or not _may_pass(error):
                raise
        else:
            if is_ready(seen) or now_s() >= end_s:
                return seen
        await pause(LOOK_EVERY_S)


def _may_pass(error: TidemillError) -> bool:
    return isinstance(error, TransientError) or error.code in _BEFORE_MIGRATIONS
