"""The keys that encrypt secrets: one for each row, wrapped by a master key that is not in the database.

`tm.secret_master` names the master keys that wrap something, each with a value that only it opens: by that a process
sees at start whether it has them all.

Revision ID: core_0008
Revises: core_0007
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "core_0008"
down_revision = "core_0007"
branch_labels = None
depends_on = None

TABLES = """
create table tm.secret_master (
  name text primary key, check_value bytea not null, at timestamptz not null default clock_timestamp());
create table tm.secret_key (
  collection text not null, key text not null, generation int not null,
  wrapped bytea,   -- null: erased, nobody can read what it encrypted
  master text not null,
  at timestamptz not null default clock_timestamp(), erased_at timestamptz,
  primary key (collection, key, generation),
  check ((wrapped is null) = (erased_at is not null)));
revoke all on tm.secret_master, tm.secret_key from public;
grant select, insert, update, delete on tm.secret_master to tidemill_service;
grant select, insert, update on tm.secret_key to tidemill_service;
"""


def upgrade() -> None:
    """Make the tables."""
    run_script(TABLES)


def downgrade() -> None:
    """Drop the tables; what was encrypted can then be read by nobody."""
    run_script("drop table tm.secret_key, tm.secret_master")
