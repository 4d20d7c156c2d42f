"""The way back from hourly telemetry, which a database of TimescaleDB's Community edition gets behind its revisions.

Revision ID: telemetry_events_0002
Revises: telemetry_events_0001
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "telemetry_events_0002"
down_revision = "telemetry_events_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add nothing: a database may be moved to that edition long after its revisions were applied."""


def downgrade() -> None:
    """Drop the aggregate, if there is one: the table cannot be dropped before it. What left for the archive keeps it."""
    run_script(
        "call tm.refuse_to_forget('public.telemetry_events'); "
        "drop materialized view if exists public.telemetry_events_hourly"
    )
