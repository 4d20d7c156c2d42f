-- The statements of principals. What a process that serves runs only reads; the others are an operator's.

-- name: principal_version
select version::text as version from tm.principal_version

-- name: principals
select name, kind, subject, created_at, revoked_at from tm.principal order by name

-- name: principal_grants
select principal, collection, verbs, hidden from tm.principal_grant order by principal, collection

-- name: principal_tokens
select id, principal, hash, label, last_characters, created_at, expires_at, revoked_at
from tm.principal_token order by id

-- name: lock_principals
-- The first statement of each change: so one is decided after the other. A process that reads does not wait.
select version from tm.principal_version for update

-- name: put_principal
insert into tm.principal (name, kind, subject, created_at, revoked_at) values ($1, $2, $3, $4, $5)
on conflict (name) do update set subject = excluded.subject, revoked_at = excluded.revoked_at

-- name: put_principal_grant
insert into tm.principal_grant (principal, collection, verbs, hidden) values ($1, $2, $3, $4)
on conflict (principal, collection) do update set verbs = excluded.verbs, hidden = excluded.hidden

-- name: put_principal_token
insert into tm.principal_token
  (id, principal, hash, label, last_characters, created_at, expires_at, revoked_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (id) do update set expires_at = excluded.expires_at, revoked_at = excluded.revoked_at

-- name: remove_principal_grant
delete from tm.principal_grant where principal = $1 and collection = $2
