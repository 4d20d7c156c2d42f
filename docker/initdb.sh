#!/usr/bin/env bash
# Runs once, when the database's volume is new: the logins of Tidemill with the roles that its migrations grant to, and
# the registry's login and database. The owner of the database migrates; everybody else has no more than their role.
set -euo pipefail

psql --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 --quiet \
    --set owner_password="$OWNER_PASSWORD" --set service_password="$SERVICE_PASSWORD" --set reader_password="$READER_PASSWORD" \
    --set archiver_password="$ARCHIVER_PASSWORD" --set keeper_password="$KEEPER_PASSWORD" --set http_password="$HTTP_PASSWORD" \
    --set registry_password="$REGISTRY_PASSWORD" <<'SQL'
create role tidemill_service nologin;
create role tidemill_retention nologin in role tidemill_service;
create role tidemill_archiver nologin;
create role tidemill_reader nologin;
create role tidemill_http nologin in role tidemill_reader;
create role tidemill_owner login password :'owner_password';
create role tidemill login password :'service_password' in role tidemill_service;
create role tidemill_query login password :'reader_password' in role tidemill_reader;
create role tidemill_keeper login password :'keeper_password' in role tidemill_retention;
create role tidemill_archive login password :'archiver_password' in role tidemill_archiver;
create role tidemill_web login password :'http_password' in role tidemill_http;
alter database tidemill owner to tidemill_owner;
create role registry login password :'registry_password';
-- template1 has TimescaleDB, whose scheduler would be in the way of a copy.
create database registry owner registry template template0;
SQL
