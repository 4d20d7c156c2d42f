"""Data analyses, and the files that belong to them.

Revision ID: data_analyses_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "data_analyses_0001"
down_revision = None
branch_labels = ("data_analyses",)
depends_on = "core_0001"

DATA_ANALYSES = """
create table public.data_analyses (
  id text primary key, service_name text not null, user_id text not null, name text not null,
  kind text not null, parameters jsonb not null, status text not null, result jsonb, error text,
  started_at timestamptz, finished_at timestamptz, deleted boolean not null, version bigint not null,
  created_at timestamptz not null, updated_at timestamptz not null)
  with (fillfactor = 80);
create index data_analyses_user_id_status_created_at on public.data_analyses (user_id, status, created_at);
create view public.data_analyses_view as
  select id, service_name, user_id, name, kind, parameters, status, result, error, started_at, finished_at,
    version, created_at, updated_at
  from public.data_analyses where not deleted;
"""

ANALYSIS_FILES = """
create table public.analysis_files (
  id text primary key, service_name text not null, data_analysis_id text not null, filename text not null,
  file_type text not null, size_bytes bigint not null, sha256 text not null, location text not null,
  deleted boolean not null, version bigint not null, created_at timestamptz not null,
  updated_at timestamptz not null)
  with (fillfactor = 80);
create index analysis_files_data_analysis_id_file_type on public.analysis_files (data_analysis_id, file_type);
create unique index analysis_files_data_analysis_id_filename_unique
  on public.analysis_files (data_analysis_id, filename) where not deleted;
create view public.analysis_files_view as
  select id, service_name, data_analysis_id, filename, file_type, size_bytes, sha256, location, version,
    created_at, updated_at
  from public.analysis_files where not deleted
    and exists (select 1 from public.data_analyses parent where parent.id = data_analysis_id and not parent.deleted);
"""

GRANTS = """
grant select, insert, update, delete on public.data_analyses, public.analysis_files to tidemill_service;
grant select on public.data_analyses_view, public.analysis_files_view to tidemill_reader;
"""


def upgrade() -> None:
    """Create the tables, and what readers see of them."""
    for part in (DATA_ANALYSES, ANALYSIS_FILES, GRANTS):
        run_script(part)


def downgrade() -> None:
    """Drop them, with all rows."""
    run_script("drop view public.analysis_files_view, public.data_analyses_view")
    run_script("drop table public.analysis_files, public.data_analyses")
