#!/bin/sh
# PostgreSQL's image runs this when it creates the database. The API gets a role that owns this database and
# nothing else. The superuser loses its password, so that only a shell in the container can use it.
psql --set=ON_ERROR_STOP=1 --username=postgres --dbname=lab \
  --set=password="$(cat /run/secrets/database_password)" <<'SQL'
CREATE ROLE lab LOGIN PASSWORD :'password';
ALTER DATABASE lab OWNER TO lab;
ALTER ROLE postgres PASSWORD NULL;
SQL
