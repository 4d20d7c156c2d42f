"""Points on numeric axes that were superseded are removed, and saves that rest are given up: a right, and two indexes.

Revision ID: time_series_0002
Revises: time_series_0001
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "time_series_0002"
down_revision = "time_series_0001"
branch_labels = None
depends_on = None


INDEXES = """
create index idx_time_series_metadata_open_expires_at on public.time_series_metadata (open_expires_at);
create index idx_time_series_numeric_points_series_revision
  on public.time_series_numeric_points (time_series_id, revision);
"""


def upgrade() -> None:
    """Let the service delete, and find by series and revision, and saves that rest."""
    run_script(INDEXES)
    run_script("grant delete on public.time_series_numeric_points to tidemill_service")


def downgrade() -> None:
    """Let superseded rows stay."""
    run_script("revoke delete on public.time_series_numeric_points from tidemill_service")
    run_script("drop index public.idx_time_series_numeric_points_series_revision")
    run_script("drop index public.idx_time_series_metadata_open_expires_at")
