#!/bin/sh
# `make up`: the outputs' folder with the right owner, the containers, and a wait until the service is healthy.
set -eu
cd "$(dirname "$0")/.."

fail() { echo "up: $*" >&2; exit 2; }
setting() { printf '%s\n' "$settings" | sed -n "s/^$1=//p"; } # of the shell, else of .env
has() { case ",$1," in *",$2,"*) ;; *) return 1 ;; esac; }

docker compose version >/dev/null 2>&1 || fail "Docker with Compose 2 is needed: https://docs.docker.com/engine/install"
docker info >/dev/null 2>&1 || fail "no Docker engine answers; start it, or join its group: sudo usermod -aG docker $(id -un)"
settings=$(docker compose config --environment) || exit 2 # once: each look takes Compose a moment

profiles=${PROFILE:-$(setting COMPOSE_PROFILES)}
for profile in $(echo "${PROFILE:-}" | tr , ' '); do
    docker compose config --profiles | grep -qx "$profile" ||
        fail "PROFILE: there is no \"$profile\"; there is: $(docker compose config --profiles | xargs)"
done
feeds=$(setting FEEDS | tr -d ' ')
if [ -z "$feeds" ]; then
    feeds=transactions
    ! has "$profiles" activity || feeds=transactions,user_activity
fi
export FEEDS="$feeds"
topic=$(setting KAFKA_TOPIC)
[ -z "$topic" ] || [ "$feeds" = "${feeds#*,}" ] ||
    fail "KAFKA_TOPIC: $topic cannot be the topic of $(echo "$feeds" | tr , '\n' | grep -c .) feeds; unset it"

# The containers run as whoever typed this, so that the outputs are theirs; none runs as root.
APP_UID=$(id -u) APP_GID=$(id -g)
output=$(setting OUTPUT_PATH)
output=${output:-data/output}
case $output in "~" | "~/"*) output=$HOME${output#"~"} ;; esac # as Compose and the service read it
mkdir -p "$output"
if [ "$APP_UID" = 0 ]; then
    APP_UID=${SUDO_UID:-1000} APP_GID=${SUDO_GID:-1000}
    chown "$APP_UID:$APP_GID" "$output"
    for made in "$output"/_* "$output"/*/_chk; do # what a run without Docker left to root, and nothing else
        [ ! -e "$made" ] || chown -R "$APP_UID:$APP_GID" "${made%/_chk}"
    done
fi
export APP_UID APP_GID

# its NAME DEFAULT: makes the folder that a setting names, for whoever the containers run as.
its() {
    folder=$(setting "$1")
    folder=${folder:-$2}
    case $folder in "~" | "~/"*) folder=$HOME${folder#"~"} ;; esac
    mkdir -p "$folder"
    [ "$(id -u)" != 0 ] || chown "$APP_UID:$APP_GID" "$folder"
}

# What feed files declare is asked of the image, which reads them as the service does: only Docker is needed here.
docker compose build stream-app || fail "the image of the service cannot be built"
declared=$(docker compose --progress quiet run --rm --no-deps -T stream-app python3 -m stream_app feeds --format=json) ||
    fail "no container was started"
case $declared in
*'"needs_database": true'*) database=1 ;;
*) database= ;;
esac
if [ -n "$database" ] || has "$feeds" user_activity; then
    has "$profiles" activity || profiles=${profiles:+$profiles,}activity
fi
if has "$feeds" sales; then
    has "$profiles" sales || profiles=${profiles:+$profiles,}sales
fi
if has "$profiles" airflow; then
    its LANDING_PATH data/landing
    its GOLD_PATH data/gold
    its REPORTS_PATH data/reports
    case $(setting AIRFLOW_EXECUTOR) in
    "" | LocalExecutor) ;;
    CeleryExecutor) profiles=$profiles,airflow-celery ;;
    *) fail "AIRFLOW_EXECUTOR: $(setting AIRFLOW_EXECUTOR) is none of LocalExecutor, CeleryExecutor" ;;
    esac
fi
export COMPOSE_PROFILES="$profiles"
if has "$profiles" replicated; then
    export KAFKA_VOTERS=1@kafka:9093,2@kafka-2:9093,3@kafka-3:9093 KAFKA_VOLUME=kafka-replica-1
    export KAFKA_BROKERS=kafka:9092,kafka-2:9092,kafka-3:9092 KAFKA_REPLICAS=3 KAFKA_REPLICAS_IN_SYNC=2
fi
if has "$profiles" monitoring; then
    export KAFKA_BROKER_AGENT=-javaagent:/opt/agent/agent.jar=5556:/opt/agent.yml
    chmod -R a+rX deploy # the users of these images read it: a checkout made under a strict umask is root's alone
fi
if has "$profiles" cluster; then
    master=$(setting SPARK_MASTER)
    export SPARK_MASTER="${master:-spark://spark-master:7077}"
fi

# A producer for each feed that has one here.
idle=
has "$feeds" transactions || idle="--scale producer=0"
! has "$profiles" activity || has "$feeds" user_activity || idle="$idle --scale producer-activity=0"

# keep_new NAME: makes a secret of 32 characters, writes it to .env and says it.
keep_new() {
    made=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    [ -e .env ] || (umask 077 && : >.env && chown "$APP_UID:$APP_GID" .env)
    [ -z "$(tail -c 1 .env)" ] || echo >>.env
    echo "$1=$made" >>.env
    echo "$made"
}

# secret NAME: of the shell or .env, or made once and written there.
secret() {
    value=$(setting "$1")
    if [ -z "$value" ]; then
        value=$(keep_new "$1")
        echo "up: $1 was made; it is in .env"
    fi
    export "$1=$value"
}

# password NAME VOLUME: the same for a database, which keeps the password that it was made with.
password() {
    if [ -z "$(setting "$1")" ]; then
        project=$(docker compose config | sed -n 's/^name: //p')
        ! docker volume inspect "${project}_$2" >/dev/null 2>&1 ||
            fail "$1: not set, but the database was made with one; put it into .env, or" \
                "remove the database: make down; docker volume rm ${project}_$2"
    fi
    secret "$1"
    case $value in
    *[!A-Za-z0-9._~-]*) fail "$1: it becomes part of a URL; only letters, digits and . _ ~ - are safe" ;;
    esac
}

! has "$profiles" activity || password POSTGRES_PASSWORD postgres
! has "$profiles" cluster || secret SPARK_AUTH_SECRET # what driver, master and workers share
if has "$profiles" airflow; then
    password AIRFLOW_POSTGRES_PASSWORD airflow-postgres
    secret AIRFLOW_PASSWORD
    secret AIRFLOW_SECRET
    [ ${#AIRFLOW_SECRET} -ge 32 ] || fail "AIRFLOW_SECRET: 32 characters or more are needed"
    # 32 bytes, as Airflow wants them for what it encrypts in its database
    AIRFLOW_FERNET_KEY=$(printf %.32s "$AIRFLOW_SECRET" | base64 | tr +/ -_)
    export AIRFLOW_FERNET_KEY
fi
! has "$profiles" monitoring || secret GRAFANA_PASSWORD
sh local/private_env.sh up

# What ran in another profile has no place in this one.
for service in $(docker compose --profile '*' ps --services); do
    docker compose config --services | grep -qx "$service" || docker compose rm --stop --force "$service"
done
# shellcheck disable=SC2086 # words
docker compose up --build --detach $idle ||
    fail "not all was started; a taken port is changed by KAFKA_PORT, SPARK_UI_PORT, METRICS_PORT, POSTGRES_PORT," \
        "SPARK_MASTER_UI_PORT, KAFKA_SECOND_PORT, KAFKA_THIRD_PORT, DASHBOARD_PORT, PROMETHEUS_PORT, ALERTMANAGER_PORT," \
        "GRAFANA_PORT, AIRFLOW_PORT"

# Waited for is the service, the page and Airflow, as all the others end or are waited for by it: kafka-init, and a
# producer with a COUNT, may have exited by now, which --wait takes for a failure. A service that restarts fails at once.
trouble=
is_up() { docker compose up --detach --wait --wait-timeout 600 --no-deps --no-recreate "$@"; }
is_up stream-app || trouble=stream-app
! has "$profiles" dashboard || is_up api nginx || trouble="$trouble api nginx"
! has "$profiles" airflow || is_up airflow || trouble="$trouble airflow"
for producer in producer producer-activity producer-sales; do
    case $(docker compose --profile '*' ps --all --format '{{.State}} {{.ExitCode}}' "$producer") in
    restarting* | "exited "[1-9]*) trouble="$trouble $producer" ;;
    esac
done
if [ -n "$trouble" ]; then
    for service in $trouble; do docker compose logs --tail 5 "$service" >&2; done
    fail "not healthy:" $trouble "(its last lines are above); make logs shows more, make down stops all"
fi

address() { docker compose port "$1" "$2"; }
echo "up: healthy"
echo "  outputs   $output/<feed>/{bronze,quarantine,silver,gold,raw_csv}; make show, make status, make query SQL=\"...\""
! has "$profiles" dashboard || echo "  page      http://$(address nginx 8088)/"
echo "  logs      make logs, make logs SERVICE=stream-app"
echo "  Spark UI  http://$(address stream-app 4040)"
[ -z "$(docker compose ps --quiet spark-master 2>/dev/null)" ] || echo "  cluster   http://$(address spark-master 8080)"
echo "  metrics   http://$(address stream-app 9108)/metrics, and /healthz"
echo "  Kafka     $(address kafka 9094 | sed s/127.0.0.1/localhost/)"
if has "$profiles" monitoring; then
    echo "  Prometheus http://$(address prometheus 9090), Alertmanager http://$(address alertmanager 9093)"
    echo "  Grafana   http://$(address grafana 3000), user admin, password GRAFANA_PASSWORD of .env"
fi
! has "$profiles" activity || echo "  database  $(address postgres 5432); make psql"
! has "$profiles" airflow ||
    echo "  Airflow   http://$(address airflow 8080), as admin with AIRFLOW_PASSWORD of .env"
echo "  stop      make down"
