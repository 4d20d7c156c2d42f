"""What a hop took of the servers besides PostgreSQL's CPU: the broker's CPU, and bytes of WAL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True)
class ServerMeter:
    """Measures from `begin` to `read`. What else the servers do meanwhile is measured, too: nothing else may run."""

    connection: Any
    broker: psutil.Process
    broker_s: float
    wal: int

    @classmethod
    async def begin(cls, connection: Any, bootstrap: str) -> ServerMeter:
        """Begin. `connection`: to the database as a superuser. `bootstrap`: of a broker on this machine."""
        broker = psutil.Process(listener_of(int(bootstrap.rpartition(":")[2])))
        return cls(connection, broker, _cpu_s(broker), await wal_bytes(connection))

    async def read(self, records: int) -> dict[str, float]:
        """Return microseconds of the broker and bytes of WAL for each of the records."""
        return {
            "broker_us": (_cpu_s(self.broker) - self.broker_s) / records * 1e6,
            "wal_bytes": (await wal_bytes(self.connection) - self.wal) / records,
        }


def listener_of(port: int) -> int:
    """Return the pid of the process that listens on a port. Raises `SystemExit` if none of this machine does."""
    for found in psutil.net_connections("tcp"):
        if found.status == psutil.CONN_LISTEN and found.laddr.port == port and found.pid is not None:
            return int(found.pid)
    raise SystemExit(f"no process that may be seen listens on port {port}: is the broker on this machine?")


async def wal_bytes(connection: Any) -> int:
    """Return how many bytes of its log a server has written, in all its databases."""
    return int(await connection.fetchval("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
