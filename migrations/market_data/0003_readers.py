"""Market data: the reading login may read what was recorded, for `tidemill query market-data`.

Revision ID: market_data_0003
Revises: market_data_0002
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "market_data_0003"
down_revision = "market_data_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Grant it."""
    run_script("grant select on public.market_data to tidemill_reader")


def downgrade() -> None:
    """Revoke it."""
    run_script("revoke select on public.market_data from tidemill_reader")
