#!/bin/sh
# Validator and miner are different people: a database and a user each, and neither may enter the other's.
set -eu
for name in validator miner; do
  case "$name" in validator) password="$VALIDATOR_DB_PASSWORD" ;; *) password="$MINER_DB_PASSWORD" ;; esac
  psql -v ON_ERROR_STOP=1 -v name="$name" -v password="$password" --username "$POSTGRES_USER" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
