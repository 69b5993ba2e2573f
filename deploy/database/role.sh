#!/bin/sh
# Run by PostgreSQL's image when it makes the database: the API's own role, which owns that database
# and nothing else. The superuser has no password afterwards, so nobody is it but from inside.
psql --set=ON_ERROR_STOP=1 --username=postgres --dbname=lab \
  --set=password="$(cat /run/secrets/database_password)" <<'SQL'
CREATE ROLE lab LOGIN PASSWORD :'password';
ALTER DATABASE lab OWNER TO lab;
ALTER ROLE postgres PASSWORD NULL;
SQL
