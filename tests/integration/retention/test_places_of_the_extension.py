"""The whole way of a chunk to the lake and back where TimescaleDB's extension is in a schema of its own."""

from pathlib import Path

from tests.integration.retention.test_shared_lake import dropped
from tests.support.archive.site import archive
from tests.support.servers.databases import Databases, execute
from tidemill.storage.migrations.migrate import upgrade


async def test_rows_leave_wherever_the_extension_is(databases: Databases, tmp_path: Path) -> None:
    with databases.empty() as url:
        execute(url, "create schema ext", "create extension timescaledb schema ext")
        await upgrade(url)
        async with archive(url, tmp_path) as world:
            await dropped(world)
            assert await world.hot() == 0
