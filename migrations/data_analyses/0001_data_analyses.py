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
"""

GRANTS = """
grant select, insert, update, delete on public.data_analyses, public.analysis_files to tidemill_service;
"""


def upgrade() -> None:
    """Create the tables."""
    for part in (DATA_ANALYSES, ANALYSIS_FILES, GRANTS):
        run_script(part)


def downgrade() -> None:
    """Drop them, with all rows."""
    run_script("drop table public.analysis_files, public.data_analyses")
