# For `.`: where the database is, for a program on this machine.
# Compose's database, or for who does not say, the one that `make run` or `make postgres` started.
database_url() {
    if [ -n "$(docker compose --profile '*' ps --quiet --status running postgres 2>/dev/null)" ]; then
        password=$(docker compose config --environment | sed -n 's/^POSTGRES_PASSWORD=//p')
        at=$(docker compose --profile '*' port postgres 5432)
        export DATABASE_URL="postgresql://stream_app:$password@$at/stream_app"
    elif [ -z "${DATABASE_URL:-}" ] && ! grep -qs '^DATABASE_URL=.' .env && [ -r data/run/postgres.url ]; then
        DATABASE_URL=$(cat data/run/postgres.url)
        export DATABASE_URL
    fi
}
