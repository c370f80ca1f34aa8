#!/bin/sh
# `make psql`: a shell on the database, or one statement of it. FEED and SINK, which this machine reads the feed files for,
# show the tables of these first. Else it is in the container where Compose runs a database.
set -u
cd "$(dirname "$0")/.." || exit 2
. local/database_url.sh

here() {
    database_url
    sh local/setup.sh --venv-only &&
        exec .venv/bin/python -m local psql ${SQL:+"--sql=$SQL"} ${FEED:+"--feed=$FEED"} ${SINK:+"--sink=$SINK"}
    exit 2
}

[ -z "${FEED:-}${SINK:-}" ] || here
[ -n "$(docker compose --profile '*' ps --quiet --status running postgres 2>/dev/null)" ] || here
psql='exec psql --username "$POSTGRES_USER" "$POSTGRES_DB"'
[ -z "${SQL:-}" ] || psql="$psql --set ON_ERROR_STOP=1 --command \"\$SQL\""
if [ -t 0 ] && [ -t 1 ]; then tty=; else tty=--no-TTY; fi
exec docker compose --profile '*' exec $tty -e SQL -e PSQL_HISTORY=/tmp/.psql_history postgres sh -c "$psql"
