"""Lanes that wait for a version that knows all of a command.

How long a lane waits is bounded over restarts, take-overs and rebalances, by the database's clock: so since when, before
which command and until when stands here. A row stays when its wait is over, since a lane that waited in vain does not
wait again for a day.

Revision ID: core_0005
Revises: core_0004
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "core_0005"
down_revision = "core_0004"
branch_labels = None
depends_on = None

WAITING = """
-- The newest wait of a lane: over if over_at is set, or if the lane's ledger is beyond record_offset.
create table tm.waiting (
  lane smallint primary key references tm.lane, record_offset bigint not null,
  schema text not null,                       -- the id in the registry, or the fingerprint
  type text not null, service text, detail text not null,
  since timestamptz not null, until timestamptz not null, over_at timestamptz, reason text);
grant select, insert, update on tm.waiting to tidemill_service;
"""


def upgrade() -> None:
    """Add the table: processes of the version before do not know it, and park such commands or cut them down."""
    run_script(WAITING)


def downgrade() -> None:
    """Drop the table: a lane that waits begins anew, once the version after this is back."""
    run_script("drop table tm.waiting")
