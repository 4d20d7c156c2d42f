"""Points on axes of datetimes that were superseded are removed, too, as long as their chunk is open: a right, and an index.

Revision ID: time_series_0003
Revises: time_series_0002
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "time_series_0003"
down_revision = "time_series_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let the service delete, and find by series and revision in each chunk."""
    run_script(
        "create index idx_time_series_data_points_series_revision "
        "on public.time_series_data_points (time_series_id, revision);"
    )
    run_script("grant delete on public.time_series_data_points to tidemill_service")


def downgrade() -> None:
    """Let superseded rows stay until their chunk leaves."""
    run_script("revoke delete on public.time_series_data_points from tidemill_service")
    run_script("drop index public.idx_time_series_data_points_series_revision")
