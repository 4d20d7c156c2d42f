"""Cache entries: values that services keep for a while; readers see them until their time is over.

Revision ID: cache_entries_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "cache_entries_0001"
down_revision = None
branch_labels = ("cache_entries",)
depends_on = "core_0001"

CACHE_ENTRIES = """
create table public.cache_entries (
  id text primary key, service_name text not null, value jsonb not null, expires_at timestamptz not null,
  deleted boolean not null, version bigint not null, created_at timestamptz not null,
  updated_at timestamptz not null)
  with (fillfactor = 80);
-- What is over is found by it, and what is deleted already is not in it.
create index cache_entries_expires_at on public.cache_entries (expires_at) where not deleted;
create view public.cache_entries_view as
  select id, service_name, value, expires_at, version, created_at, updated_at
  from public.cache_entries where not deleted and expires_at > now();
"""

GRANTS = """
grant select, insert, update, delete on public.cache_entries to tidemill_service;
grant select on public.cache_entries_view to tidemill_reader;
"""


def upgrade() -> None:
    """Create the table, and what readers see of it."""
    for part in (CACHE_ENTRIES, GRANTS):
        run_script(part)


def downgrade() -> None:
    """Drop it, with all rows."""
    run_script("drop view public.cache_entries_view")
    run_script("drop table public.cache_entries")
