"""Connector profiles: the profiles themselves and the directory that readers see.

Revision ID: connector_profiles_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "connector_profiles_0001"
down_revision = None
branch_labels = ("connector_profiles",)
depends_on = "core_0001"

PROFILES = """
create table public.connector_profiles (
  id text primary key, name text not null, service_name text not null, profile_data jsonb not null,
  active boolean not null, version bigint not null, created_at timestamptz not null, updated_at timestamptz not null);

create index connector_profiles_data on public.connector_profiles using gin (profile_data);
create index connector_profiles_type on public.connector_profiles ((profile_data ->> 'type'));

-- The guard across lanes; inside a lane the engine sees a taken name before it comes here.
create unique index connector_profiles_active_name on public.connector_profiles (service_name, name) where active;
"""

READ_MODELS = """
create table public.connector_directory (
  profile_id text primary key, name text not null, service_name text not null, type text, active boolean not null,
  id bigint not null, uuid uuid not null, created_at timestamptz not null, updated_at timestamptz not null,
  version bigint not null);
"""

GRANTS = """
grant select, insert, update, delete on public.connector_profiles, public.connector_directory to tidemill_service;
grant select on public.connector_directory to tidemill_reader;
"""


def upgrade() -> None:
    """Create the profiles and their directory."""
    for part in (PROFILES, READ_MODELS, GRANTS):
        run_script(part)


def downgrade() -> None:
    """Drop them, with all that they hold."""
    run_script("drop table public.connector_directory; drop table public.connector_profiles")
