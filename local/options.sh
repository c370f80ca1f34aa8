#!/bin/sh
# sh local/options.sh TARGETS [GIVEN...]: the options of make targets, as the Makefile's lines of help name them.
#
# Without GIVEN it lists them. Else it says what is wrong with variables of make's command line: of those that are
# neither an option nor a setting nobody would read the value.
set -u
cd "$(dirname "$0")/.." || exit 2
targets=${1:-help}
shift
options=$(awk -v targets=" $targets " -F ':.*##' '/^[a-z-]+:.*##/ && index(targets, " " $1 " ") { print $2 }' Makefile |
    grep -oE '[A-Z][A-Z0-9_]*=' | tr -d = | sort -u | xargs)
if [ $# -eq 0 ]; then
    echo "$options"
    exit
fi
# What the Makefile and the programs beneath take beside the settings.
known=" $options PYTHON COMPOSE SHELL SPARK_SUBMIT_OPTS SPARK_LOCAL_IP $(sed -n 's/^#*\([A-Z][A-Z0-9_]*\)=.*/\1/p' .env.example | xargs) "
for target in $targets; do
    grep -q "^$target:.*##" Makefile || exit 0 # make itself says what is wrong with that
done
for name in "$@"; do
    case $name in JAVA_* | DOCKER_* | COMPOSE_* | PIP_* | PYTEST_* | KAFKA_CLIENT_*) continue ;; esac
    case $known in
    *" $name "*) ;;
    *)
        echo "$targets: there is no option $name; it takes ${options:-none}, and the settings of .env.example"
        exit
        ;;
    esac
done
