"""Tool generations: what users asked for, and what came out.

Revision ID: tool_generations_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "tool_generations_0001"
down_revision = None
branch_labels = ("tool_generations",)
depends_on = "core_0001"

TOOL_GENERATIONS = """
create table public.tool_generations (
  id text primary key, service_name text not null, user_id text not null, tool_type text not null,
  prompt text not null, parameters jsonb not null, status text not null, result jsonb, error text,
  deleted boolean not null, version bigint not null, created_at timestamptz not null,
  updated_at timestamptz not null)
  with (fillfactor = 80);
create index tool_generations_user_id_status_tool_type on public.tool_generations (user_id, status, tool_type);
create view public.tool_generations_view as
  select id, service_name, user_id, tool_type, prompt, parameters, status, result, error, version, created_at,
    updated_at
  from public.tool_generations where not deleted;
"""

GRANTS = """
grant select, insert, update, delete on public.tool_generations to tidemill_service;
grant select on public.tool_generations_view to tidemill_reader;
"""


def upgrade() -> None:
    """Create the table, and what readers see of it."""
    for part in (TOOL_GENERATIONS, GRANTS):
        run_script(part)


def downgrade() -> None:
    """Drop it, with all rows."""
    run_script("drop view public.tool_generations_view")
    run_script("drop table public.tool_generations")
