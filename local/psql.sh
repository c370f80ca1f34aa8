#!/bin/sh
# `make psql`: a shell on the database, or one statement of it; in the container where Compose runs one.
set -u
cd "$(dirname "$0")/.." || exit 2

if [ -z "$(docker compose --profile '*' ps --quiet --status running postgres 2>/dev/null)" ]; then
    sh local/setup.sh --venv-only && exec .venv/bin/python -m local psql ${SQL:+"--sql=$SQL"}
    exit 2
fi
psql='exec psql --username "$POSTGRES_USER" "$POSTGRES_DB"'
[ -z "${SQL:-}" ] || psql="$psql --set ON_ERROR_STOP=1 --command \"\$SQL\""
if [ -t 0 ] && [ -t 1 ]; then tty=; else tty=--no-TTY; fi
exec docker compose --profile '*' exec $tty -e SQL -e PSQL_HISTORY=/tmp/.psql_history postgres sh -c "$psql"
