"""One hop in a process of its own: `python -m benchmarks.child SIDE HOP DATABASE KAFKA NAME COUNT` prints a reading.

SIDE: `floor`; `tidemill`; `odd`, which is the same over another backlog; `limit`, whose HOP is `intake`; `entity`,
whose HOP is the name of a context: its intake; or `share`: the same, but nothing is applied before a line comes to
standard input, and other processes may apply some of the commands.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from importlib import import_module

import uvloop

from benchmarks import floor, hops, limit
from benchmarks.arena import Arena
from benchmarks.meter import Meter, Reading

FLOOR = {"intake": floor.work, "relay": floor.relay, "projector": floor.project}


async def _floor(hop: str, where: Arena, count: int) -> Reading:
    connection, backend = await hops.backend_of(where)
    reading = await FLOOR[hop](where, count, lambda: Meter(backend, [os.getpid()]))
    await connection.close()
    return reading


def main() -> None:
    """Run the hop that the arguments name."""
    side, hop, database, kafka, name, count = sys.argv[1:]
    where = Arena(name, database, kafka)
    if side == "floor":
        run = _floor(hop, where, int(count))
    elif side == "limit":
        run = limit.work(where, int(count))
    elif side in ("entity", "share"):
        context = import_module(f"tidemill.contexts.{hop}").context
        begin = (lambda: asyncio.to_thread(sys.stdin.readline)) if side == "share" else None
        run = hops.work(where, int(count), context, begin)
    else:
        run = hops.HOPS[hop](where, int(count))
    reading = uvloop.run(run).as_dict() | {
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    }
    sys.stdout.write(json.dumps(reading) + "\n")


if __name__ == "__main__":
    main()
