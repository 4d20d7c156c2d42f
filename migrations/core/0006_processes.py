"""What each process that serves holds: the names of its connections, its open files and how many it may have.

Only a process knows its open files, and `tidemill status` runs in another one. A row is renewed every half a minute and
removed at the end, so the table stays as small as the deployment; it decides nothing.

Revision ID: core_0006
Revises: core_0005
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "core_0006"
down_revision = "core_0005"
branch_labels = None
depends_on = None

TABLE = """
create table tm.process (
  process text primary key, names text[] not null, version text not null,
  open_files int not null, file_limit bigint,   -- null: there is no limit
  started_at timestamptz not null default clock_timestamp(), at timestamptz not null default clock_timestamp());
grant select, insert, update, delete on tm.process to tidemill_service;
"""


def upgrade() -> None:
    """Make the table."""
    run_script(TABLE)


def downgrade() -> None:
    """Drop the table."""
    run_script("drop table tm.process")
