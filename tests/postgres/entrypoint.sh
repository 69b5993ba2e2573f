#!/bin/sh
# Creates the database that POSTGRES_USER, POSTGRES_PASSWORD (or POSTGRES_PASSWORD_FILE), POSTGRES_DB and the
# scripts in /docker-entrypoint-initdb.d describe, then serves it as the user postgres.
set -eu
PATH=/usr/lib/postgresql/17/bin:$PATH
data=${PGDATA:-/var/lib/postgresql/data}
as_postgres=

mkdir -p "$data"
if [ "$(id -u)" = 0 ]; then
  chown postgres:postgres "$data"
  as_postgres="setpriv --reuid=postgres --regid=postgres --init-groups"
fi
$as_postgres chmod 700 "$data"
if [ ! -s "$data/PG_VERSION" ]; then
  printf '%s\n' "${POSTGRES_PASSWORD:-$(cat "$POSTGRES_PASSWORD_FILE")}" > /tmp/password
  chmod 644 /tmp/password
  $as_postgres initdb -D "$data" --encoding=UTF8 --username="${POSTGRES_USER:-postgres}" --pwfile=/tmp/password --auth-host=scram-sha-256
  rm /tmp/password
  echo "host all all all scram-sha-256" | $as_postgres tee -a "$data/pg_hba.conf" > /dev/null
  echo "CREATE DATABASE $POSTGRES_DB" | $as_postgres postgres --single -D "$data" postgres
  $as_postgres pg_ctl -D "$data" -o "-c listen_addresses=''" -w start
  for script in /docker-entrypoint-initdb.d/*.sh; do
    [ ! -e "$script" ] || $as_postgres sh -e "$script"
  done
  $as_postgres pg_ctl -D "$data" -w stop
fi
exec $as_postgres postgres -D "$data" -c listen_addresses='*'
