"""Who may ask over HTTP: principals, what they are granted, and their tokens, of which only a hash is stored.

Only the login that migrates may change them: no process that serves can grant itself anything. `tm.principal_version`
has another random value after each change, also one by hand, so that processes see with one small question whether
anything changed; a restored database has another one, too.

Revision ID: core_0010
Revises: core_0009
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "core_0010"
down_revision = "core_0009"
branch_labels = None
depends_on = None

TABLES = """
create table tm.principal (
  name text primary key,
  kind text not null check (kind in ('service', 'person')),
  subject text,   -- what JWTs call it; null: its name
  created_at timestamptz not null, revoked_at timestamptz);
create unique index principal_subject on tm.principal (coalesce(subject, name)) where revoked_at is null;
create table tm.principal_grant (
  principal text not null references tm.principal, collection text not null,
  verbs text[] not null check (cardinality(verbs) > 0), hidden text[] not null,
  primary key (principal, collection));
create table tm.principal_token (
  id text primary key, principal text not null references tm.principal,
  hash bytea not null unique check (octet_length(hash) = 32),
  label text not null, last_characters text not null check (length(last_characters) <= 4),
  created_at timestamptz not null, expires_at timestamptz not null, revoked_at timestamptz);
create index principal_token_principal on tm.principal_token (principal);
create table tm.principal_version (
  is_only boolean primary key default true check (is_only), version uuid not null);
insert into tm.principal_version (version) values (gen_random_uuid());

create function tm.renew_principal_version() returns trigger language plpgsql set search_path = pg_catalog as $$
begin
  update tm.principal_version set version = gen_random_uuid();
  return null;
end $$;
revoke all on function tm.renew_principal_version() from public;
create trigger renew_version after insert or update or delete or truncate on tm.principal
  for each statement execute function tm.renew_principal_version();
create trigger renew_version after insert or update or delete or truncate on tm.principal_grant
  for each statement execute function tm.renew_principal_version();
create trigger renew_version after insert or update or delete or truncate on tm.principal_token
  for each statement execute function tm.renew_principal_version();

revoke all on tm.principal, tm.principal_grant, tm.principal_token, tm.principal_version from public;
grant select on tm.principal, tm.principal_grant, tm.principal_token, tm.principal_version to tidemill_service;
"""


def upgrade() -> None:
    """Make the tables."""
    run_script(TABLES)


def downgrade() -> None:
    """Drop the tables: every token is lost with them."""
    run_script(
        "drop table tm.principal_token, tm.principal_grant, tm.principal, tm.principal_version; "
        "drop function tm.renew_principal_version()"
    )
