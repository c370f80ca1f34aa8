#!/bin/sh
# sh local/ops.sh NAME: runs `python -m stream_app NAME` where it can, with the options that make was given, which
# options.sh knows and the environment holds. It needs the files of the outputs, and no service.
#
# On this machine, unless the service is run by Compose and either there is no virtual environment here (then Docker
# is all that is needed) or the command writes: then in the service's image, as the user who owns the outputs.
# YES=1 lets a reset or a restore stop the service for as long as it takes.
set -u
cd "$(dirname "$0")/.." || exit 2
name=$1
state=$(docker compose ps --all --format '{{.State}}' stream-app 2>/dev/null)

# SINK=silver of make is --sink=silver, DRY_RUN=1 is --dry-run.
set -- "$name"
for option in $(sh local/options.sh "$name"); do
    value=$(printenv "$option")
    [ -n "$value" ] || continue
    typed=--$(echo "$option" | tr A-Z_ a-z-)
    case $option=$value in
    YES=0 | DRY_RUN=0 | ACCEPT=0 | FULL=0 | BATCH=0) ;;
    YES=1 | DRY_RUN=1 | ACCEPT=1 | FULL=1 | BATCH=1) set -- "$@" "$typed" ;;
    *) set -- "$@" "$typed=$value" ;;
    esac
done

in_image() { docker compose --progress quiet run --rm --no-deps stream-app python3 -m stream_app "$@"; }

. local/database_url.sh

on_this_machine() {
    database_url
    sh local/setup.sh --venv-only && exec .venv/bin/python -m stream_app "$@"
}

case "$name $state" in
feed-* | "api "*) on_this_machine "$@" ;; # feed files: the image has a copy, which nobody edits
"reset running" | "reset restarting" | "restore running" | "restore restarting")
    if [ "${YES:-}" != 1 ]; then
        echo "$name: the service is run by Docker Compose; YES=1 stops it, does it and starts it again" >&2
        exit 2
    fi
    trap 'docker compose start stream-app' EXIT
    trap 'exit 130' INT # some shells run no EXIT trap where a signal ends them
    trap 'exit 143' TERM
    docker compose stop stream-app && in_image "$@"
    ;;
"replay running" | "replay restarting") in_image "$@" ;;
"optimize "?* | "vacuum "?*) in_image "$@" ;; # they write
*" ") on_this_machine "$@" ;;
*) if [ -x .venv/bin/python ]; then on_this_machine "$@"; else in_image "$@"; fi ;;
esac
