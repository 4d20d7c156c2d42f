"""The demo's external reader: DuckDB reads the lake in a process without Tidemill."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tidemill.domain.errors import TidemillError, UsageError
from tidemill_devkit.demo.place import DemoSite

_PROGRAM: Final = "import duckdb, json, sys; print(json.dumps(duckdb.sql(sys.argv[1]).fetchall()))"

_QUERY: Final = """
select symbol, year(time at time zone 'UTC') as year, count(*) as quotes, max(high) as high, min(low) as low
from read_parquet('{files}') group by all order by all
"""

_MAX_S: Final = 30.0


@dataclass(frozen=True)
class LakeLine:
    """The lake's values of a stock in a year."""

    symbol: str
    year: int
    quotes: int
    high: float
    low: float


_PACKAGES: Final = ("duckdb", "pyarrow", "adbc_driver_postgresql")


def demand_packages() -> None:
    """Return if the packages of the archive and its external reader are installed. Raises `UsageError`."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"this verb needs {' and '.join(missing)}: pip install 'tidemill[archive,demo]'")


def files_of(lake: Path, table: str) -> str:
    """Return the pattern of all files of a table (`schema.table`)."""
    return f"{lake}/{table}/*.parquet"


async def read_lake(place: DemoSite, table: str) -> list[LakeLine]:
    """Ask DuckDB. Raises `TidemillError` if it cannot read the lake."""
    query = _QUERY.format(files=files_of(place.lake, table).replace("'", "''"))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, query, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(child.communicate(), _MAX_S)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        raise TidemillError(f"DuckDB cannot read the lake: {err.decode(errors='replace').strip()}")
    return [LakeLine(*row) for row in json.loads(out)]
