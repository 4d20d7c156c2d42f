"""Client configurations: the settings that services keep for clients.

Revision ID: client_configs_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "client_configs_0001"
down_revision = None
branch_labels = ("client_configs",)
depends_on = "core_0001"

CLIENT_CONFIGS = """
create table public.client_configs (
  id text primary key, service_name text not null, name text not null, config_data jsonb not null,
  deleted boolean not null, version bigint not null, created_at timestamptz not null,
  updated_at timestamptz not null)
  with (fillfactor = 80);
create index client_configs_config_data on public.client_configs using gin (config_data);
create index client_configs_config_data_type on public.client_configs ((config_data ->> 'type'));
create unique index client_configs_service_name_name_unique
  on public.client_configs (service_name, name) where not deleted;
create view public.client_configs_view as
  select id, service_name, name, config_data, version, created_at, updated_at
  from public.client_configs where not deleted;
"""

GRANTS = """
grant select, insert, update, delete on public.client_configs to tidemill_service;
grant select on public.client_configs_view to tidemill_reader;
"""


def upgrade() -> None:
    """Create the table, and what readers see of it."""
    for part in (CLIENT_CONFIGS, GRANTS):
        run_script(part)


def downgrade() -> None:
    """Drop it, with all rows."""
    run_script("drop view public.client_configs_view")
    run_script("drop table public.client_configs")
