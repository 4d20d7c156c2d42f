"""Service proposals, from draft to decision.

Revision ID: service_proposals_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "service_proposals_0001"
down_revision = None
branch_labels = ("service_proposals",)
depends_on = "core_0001"

SERVICE_PROPOSALS = """
create table public.service_proposals (
  id text primary key, service_name text not null, title text not null, proposal_data jsonb not null,
  status text not null, reason text, submitted_at timestamptz, decided_at timestamptz, deleted boolean not null,
  version bigint not null, created_at timestamptz not null, updated_at timestamptz not null)
  with (fillfactor = 80);
create index service_proposals_status_created_at on public.service_proposals (status, created_at);
create index service_proposals_title_words on public.service_proposals using gin (to_tsvector('simple', title));
create view public.service_proposals_view as
  select id, service_name, title, proposal_data, status, reason, submitted_at, decided_at, version,
    created_at, updated_at
  from public.service_proposals where not deleted;
"""

GRANTS = """
grant select, insert, update, delete on public.service_proposals to tidemill_service;
grant select on public.service_proposals_view to tidemill_reader;
"""


def upgrade() -> None:
    """Create the table, and what readers see of it."""
    for part in (SERVICE_PROPOSALS, GRANTS):
        run_script(part)


def downgrade() -> None:
    """Drop it, with all rows."""
    run_script("drop view public.service_proposals_view")
    run_script("drop table public.service_proposals")
