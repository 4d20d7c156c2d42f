"""What a claim leaves on its lane: the offset it began at, and whether the lane was compared with its topics since.

`claimed_offset` counts claims without progress: ledger rows do not tell, as others than the owner write some, too.
`compared_epoch` tells those others whether they may. What no record brought needs no record offset; until every process
understands that, it is stored as -1. Processes of 0.1.0 know nothing of the columns, and go on counting by
`claimed_batch`, which is kept for them and leaves one version later.

Revision ID: core_0004
Revises: core_0003
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "core_0004"
down_revision = "core_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the two columns, and allow a row of the outbox without an offset."""
    run_script("""
      alter table tm.lane
        add column claimed_offset bigint,  -- to be consumed next at the last claim; null after a clean release, or while idle
        add column compared_epoch int;     -- the claim under which the lane was last compared with its topics
      alter table tm.outbox alter column record_offset drop not null;
    """)


def downgrade() -> None:
    """Drop the columns."""
    run_script("""
      update tm.outbox set record_offset = -1 where record_offset is null;
      alter table tm.outbox alter column record_offset set not null;
      alter table tm.lane drop column claimed_offset, drop column compared_epoch;
    """)
