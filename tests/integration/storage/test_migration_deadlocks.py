"""A migration beside batches that lock tables in another order: the server ends one of the two."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.servers.databases import execute, fetch
from tidemill.storage.migrations.migrate import DEADLOCKS, upgrade
from tidemill.storage.migrations.session import MigrationBlocked

REVISION = """
from tidemill.migration import run_script

revision, down_revision = "sensor_reading_0001", None
branch_labels, depends_on = ("sensor_reading",), "core_0001"

def upgrade():
    run_script('''
      do $body$ begin
        if nextval('public.attempts') < {attempts} then
          raise exception 'deadlock detected' using errcode = '40P01';
        end if;
      end $body$;
      create table public.sensor_reading (id int);
    ''')
"""
"""Refused by a deadlock until it has been tried so often; the sequence is not undone with it."""


@pytest.fixture
def attempts(database: str) -> str:
    execute(database, "create sequence public.attempts")
    return "select last_value from public.attempts"


def contexts(folder: Path, attempts: int) -> dict[str, Path | None]:
    (folder / "0001_it.py").write_text(REVISION.replace("{attempts}", str(attempts)), encoding="utf-8")
    return {"sensor_reading": folder}


async def test_a_revision_that_was_ended_by_a_deadlock_is_tried_again(
    database: str, tmp_path: Path, attempts: str
) -> None:
    applied = await upgrade(database, contexts=contexts(tmp_path, DEADLOCKS))
    assert [step.revision for step in applied] == ["sensor_reading_0001"]
    assert fetch(database, attempts)[0][0] == DEADLOCKS


async def test_a_migration_that_meets_deadlocks_without_end_says_so(
    database: str, tmp_path: Path, attempts: str
) -> None:
    with pytest.raises(MigrationBlocked, match="in revision sensor_reading_0001, of a session that waited"):
        await upgrade(database, contexts=contexts(tmp_path, DEADLOCKS + 1))
    assert fetch(database, attempts)[0][0] == DEADLOCKS
