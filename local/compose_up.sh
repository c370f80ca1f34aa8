#!/bin/sh
# `make up`: the outputs' folder with the right owner, the containers, and a wait until the service is healthy.
set -eu
cd "$(dirname "$0")/.."

fail() { echo "up: $*" >&2; exit 2; }
setting() { docker compose config --environment | sed -n "s/^$1=//p"; } # of the shell, else of .env

docker compose version >/dev/null 2>&1 || fail "Docker with Compose 2 is needed: https://docs.docker.com/engine/install"
docker info >/dev/null 2>&1 || fail "no Docker engine answers; start it, or join its group: sudo usermod -aG docker $(id -un)"

profiles=${PROFILE:-$(setting COMPOSE_PROFILES)}
[ -z "${PROFILE:-}" ] || docker compose config --profiles | grep -qx "$PROFILE" ||
    fail "PROFILE: there is no \"$PROFILE\"; there is: $(docker compose config --profiles | xargs)"
export COMPOSE_PROFILES="$profiles"
case ",$profiles," in
*,cluster,*) master=$(setting SPARK_MASTER); export SPARK_MASTER="${master:-spark://spark-master:7077}" ;;
esac

# The containers run as whoever typed this, so that the outputs are theirs; none runs as root.
APP_UID=$(id -u) APP_GID=$(id -g)
output=$(setting OUTPUT_PATH)
output=${output:-data/output}
mkdir -p "$output"
if [ "$APP_UID" = 0 ]; then
    APP_UID=${SUDO_UID:-1000} APP_GID=${SUDO_GID:-1000}
    chown "$APP_UID:$APP_GID" "$output"
    for made in "$output"/_* "$output"/*/_chk; do # what a run without Docker left to root, and nothing else
        [ ! -e "$made" ] || chown -R "$APP_UID:$APP_GID" "${made%/_chk}"
    done
fi
export APP_UID APP_GID

# What ran in another profile has no place in this one.
for service in $(docker compose --profile '*' ps --services); do
    docker compose config --services | grep -qx "$service" || docker compose rm --stop --force "$service"
done
docker compose up --build --detach ||
    fail "not all was started; a taken port is changed by KAFKA_PORT, SPARK_UI_PORT, METRICS_PORT, SPARK_MASTER_UI_PORT"

# Waited for is the service alone, as all the others end or are waited for by it: kafka-init, and a producer with a
# COUNT, may have exited by now, which --wait takes for a failure. A service that restarts fails at once.
trouble=
docker compose up --detach --wait --wait-timeout 600 --no-deps --no-recreate stream-app || trouble=stream-app
case $(docker compose ps --all --format '{{.State}} {{.ExitCode}}' producer) in
restarting* | "exited "[1-9]*) trouble="$trouble producer" ;;
esac
if [ -n "$trouble" ]; then
    for service in $trouble; do docker compose logs --tail 5 "$service" >&2; done
    fail "not healthy:" $trouble "(its last lines are above); make logs shows more, make down stops all"
fi

address() { docker compose port "$1" "$2"; }
echo "up: healthy"
echo "  outputs   $output/<feed>/{bronze,quarantine,silver,gold,raw_csv}; make show, make status, make query SQL=\"...\""
echo "  logs      make logs, make logs SERVICE=stream-app"
echo "  Spark UI  http://$(address stream-app 4040)"
[ -z "$(docker compose ps --quiet spark-master 2>/dev/null)" ] || echo "  cluster   http://$(address spark-master 8080)"
echo "  metrics   http://$(address stream-app 9108)/metrics, and /healthz"
echo "  Kafka     $(address kafka 9094 | sed s/127.0.0.1/localhost/)"
echo "  stop      make down"
