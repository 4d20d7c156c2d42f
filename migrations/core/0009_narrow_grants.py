"""Grants as narrow as the statements: the service may do with Tidemill's own tables what its statements do, no more.

Ledger and log it may only add to; a reconciliation moves positions and sequences. The version before has no statement that
needs more, so its processes may run beside this. Tables made later get no grant by default, partitions none
at all: they are reached through their table.

Revision ID: core_0009
Revises: core_0008
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "core_0009"
down_revision = "core_0008"
branch_labels = None
depends_on = None

SPINE = """tm.lane, tm.halt, tm.generation, tm.batch, tm.log, tm.outbox, tm.published, tm.timeline, tm.foreign_record,
  tm.parked, tm.checkpoint, tm.projection, tm.projection_halt, tm.ledger_total"""

# Only what the role that migrates may change; GRANT and REVOKE wait for no batch.
PARTITIONS = """
do $$
declare part regclass;
begin
  for part in select c.oid::regclass from pg_class c where c.relnamespace = 'tm'::regnamespace and c.relispartition and c.relkind = 'r' loop
    execute format('{change}', part);
  end loop;
end $$;
"""

NARROW = """
alter default privileges in schema tm revoke select, insert, update, delete on tables from tidemill_service;
revoke insert, update, delete on {spine} from tidemill_service;
revoke delete on tm.waiting, tm.secret_key from tidemill_service;  -- came by default
-- Locking a row needs the right to update a column of it: of a generation for lane verbs, of a projection for its batches.
grant update on tm.lane to tidemill_service;
grant insert, delete on tm.halt to tidemill_service;
grant update (filter, ids, outbox_sent_at) on tm.generation to tidemill_service;
grant insert on tm.batch to tidemill_service;
grant insert, update (position, sequence) on tm.log, tm.outbox to tidemill_service;
grant insert, update on tm.published to tidemill_service;
grant insert on tm.timeline to tidemill_service;
grant insert, update on tm.foreign_record to tidemill_service;
grant insert, update (position) on tm.parked to tidemill_service;
grant insert, update on tm.checkpoint to tidemill_service;
grant insert, update (verified_at) on tm.projection to tidemill_service;
grant insert, update, delete on tm.projection_halt to tidemill_service;
"""

WIDE = """
revoke all on {spine} from tidemill_service;
grant select, insert, update, delete on {spine} to tidemill_service;
grant delete on tm.waiting, tm.secret_key to tidemill_service;
alter default privileges in schema tm grant select, insert, update, delete on tables to tidemill_service;
"""


def upgrade() -> None:
    """Revoke what no statement needs."""
    run_script(NARROW.format(spine=SPINE))
    run_script(PARTITIONS.format(change="revoke all on %s from tidemill_service"))


def downgrade() -> None:
    """Grant everything again, as the revision before did."""
    run_script(WIDE.format(spine=SPINE))
    run_script(PARTITIONS.format(change="grant select, insert, update, delete on %s to tidemill_service"))
