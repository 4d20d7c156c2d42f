"""Connector profiles: the reading login may read the profiles, without their data, which are a secret.

Revision ID: connector_profiles_0002
Revises: connector_profiles_0001
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "connector_profiles_0002"
down_revision = "connector_profiles_0001"
branch_labels = None
depends_on = None

COLUMNS = "id, name, service_name, active, version, created_at, updated_at"


def upgrade() -> None:
    """Grant it."""
    run_script(f"grant select ({COLUMNS}) on public.connector_profiles to tidemill_reader")


def downgrade() -> None:
    """Revoke it."""
    run_script(f"revoke select ({COLUMNS}) on public.connector_profiles from tidemill_reader")  # noqa: S608  a constant
