"""Users: who may sign in.

Revision ID: users_0001
Revises:
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "users_0001"
down_revision = None
branch_labels = ("users",)
depends_on = "core_0001"

USERS = """
create table public.users (
  id text primary key, service_name text not null, username text not null, email text not null,
  hashed_password text not null, full_name text, is_active boolean not null, username_folded text not null,
  email_folded text not null, deleted boolean not null, version bigint not null,
  created_at timestamptz not null, updated_at timestamptz not null)
  with (fillfactor = 80);
create unique index users_username_unique
  on public.users (username_folded) where not deleted;
create unique index users_email_unique
  on public.users (email_folded) where not deleted;
create view public.users_view as
  select id, service_name, username, email, full_name, is_active, version, created_at, updated_at
  from public.users where not deleted;
"""

GRANTS = """
grant select, insert, update, delete on public.users to tidemill_service;
grant select on public.users_view to tidemill_reader;
"""


def upgrade() -> None:
    """Create the table, and what readers see of it."""
    for part in (USERS, GRANTS):
        run_script(part)


def downgrade() -> None:
    """Drop it, with all rows."""
    run_script("drop view public.users_view")
    run_script("drop table public.users")
