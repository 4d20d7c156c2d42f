"""Market data may leave for the archive: a place for rows that come too late, and the archiver may read.

Revision ID: market_data_0002
Revises: market_data_0001
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "market_data_0002"
down_revision = "market_data_0001"
branch_labels = None
depends_on = "core_0002"


def upgrade() -> None:
    """Prepare the hypertable for its archive."""
    run_script("call tm.prepare_late('public.market_data')")


def downgrade() -> None:
    """Drop the place for late rows, if nothing of the table left or waits."""
    run_script("call tm.refuse_to_forget('public.market_data'); drop table tm_late.public__market_data")
