#!/usr/bin/env bash
# Runs once, in the PostgreSQL container, when its volume is empty: a role for the study and one for
# the tracking server, each with databases that the other cannot open.
set -euo pipefail

passwords=${PASSWORDS:-/run/passwords}

make_role() {  # its name, the file of its password, its databases
  local role=$1 password
  password=$(cat "$passwords/$2")
  shift 2
  # A statement that fails would be logged, with the password. psql reads it from its environment:
  # other processes could see an argument.
  ROLE=$role PASSWORD=$password psql --no-psqlrc --quiet --username "$POSTGRES_USER" \
    --dbname postgres --set ON_ERROR_STOP=1 << 'SQL'
SET log_min_error_statement = panic;
\getenv role ROLE
\getenv password PASSWORD
CREATE ROLE :"role" LOGIN PASSWORD :'password';
SQL
  local database
  for database in "$@"; do
    ROLE=$role DATABASE=$database psql --no-psqlrc --quiet --username "$POSTGRES_USER" \
      --dbname postgres --set ON_ERROR_STOP=1 << 'SQL'
\getenv role ROLE
\getenv database DATABASE
CREATE DATABASE :"database" OWNER :"role";
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SQL
  done
}

make_role sqtune study sqtune
make_role mlflow tracking mlflow mlflow_auth
