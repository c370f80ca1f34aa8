# Every command of the project. Settings are given as `make run FEEDS=a,b`, as `FEEDS=a,b make run` or in .env:
# make hands variables of either kind on to what it runs.
PYTHON := .venv/bin/python
COMPOSE := docker compose --profile '*'
# Without Compose, docker would print its usage.
NEEDS_COMPOSE = $(COMPOSE) version >/dev/null 2>&1 || \
        { echo "$@: Docker with Compose 2 is needed: https://docs.docker.com/engine/install" >&2; exit 2; }
.DEFAULT_GOAL := help
# Paths and files are UTF-8, whatever the locale.
export PYTHONUTF8 := 1
# What is given on the command line is an option that the target's line below names, a setting, or a mistake.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
# It is meant as it was typed: make would take a $$ in SQL or a password for the start of a variable of its own.
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name)))$(eval export $(name)))
MISTAKE := $(if $(strip $(GIVEN)),$(shell sh local/options.sh "$(MAKECMDGOALS)" $(GIVEN)))
$(if $(MISTAKE),$(error $(MISTAKE)))
# As of SINK=$$sink where that was not set: it would be all of them.
$(foreach name,$(filter FEED SINK,$(GIVEN)),$(if $($(name)),,$(error $(name): is given, but empty; leave it out)))
# Or each start of the service would compile its modules again: a test run has a hundred starts.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup venv run broker postgres app api produce land etl airflow up down logs ps feed-check feed-test feed-new status show query quarantine drift contract lineage psql history optimize vacuum restore audit replay reset \
        test test-faults check bench soak browser-test deploy-test prometheus alertmanager compose-test lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What makes itself (setup.sh asks) is quick when there is nothing to do, so every target may ask for it.
setup: ## make the virtual environment and fetch the jars; the others do so if needed
	@sh local/setup.sh

venv:
	@sh local/setup.sh --venv-only

# exec: a signal sent to make must reach the program, not a shell around it.
run: setup ## all without Docker: broker, app, producer, the page, a live view; SECONDS_TO_RUN=90 stops by itself
	@exec $(PYTHON) -m local run

broker: setup ## the Kafka broker in the foreground
	@exec $(PYTHON) -m local broker

postgres: venv ## a PostgreSQL in the foreground, for feeds with tables in it; DATABASE_URL names another
	@exec $(PYTHON) -m local postgres

app: setup ## the streaming service in the foreground
	@exec $(PYTHON) -m local app

api: venv ## the REST API and the dashboard page in the foreground, on API_PORT
	@exec sh local/ops.sh api

produce: setup ## the producer in the foreground; FEED=user_activity MSGS_PER_SEC=100 COUNT=20000
	@exec $(PYTHON) -m local produce $${FEED:+"--feed=$$FEED"}

land: venv ## take a topic into files of the landing zone; TOPIC=user_events SECONDS=30 MAX_RECORDS= LANDING= GROUP=
	@exec sh local/ops.sh land

etl: setup ## tables of what has landed; FEEDS= SINCE=2026-11-26 UNTIL=2026-11-27 FULL=1 FORMAT=delta NAME= MASTER= LANDING= GOLD=
	@exec sh local/ops.sh etl

airflow: setup ## Airflow with the DAGs in the foreground, its UI at http://127.0.0.1:8082
	@exec $(PYTHON) -m local airflow

up: ## all with Docker Compose, returns when everything is healthy; PROFILE=cluster,replicated,activity,sales,dashboard,monitoring,airflow
	@exec sh local/compose_up.sh

down: ## stop what `make up` started; the outputs stay, and Kafka's records unless VOLUMES=1
	@$(NEEDS_COMPOSE); $(COMPOSE) down --remove-orphans $(if $(filter-out 0,$(VOLUMES)),--volumes)

logs: ## follow the containers' logs; SERVICE=stream-app for one
	@$(NEEDS_COMPOSE); exec $(COMPOSE) logs --follow --tail 200 $(SERVICE)

ps: ## list the containers
	@$(NEEDS_COMPOSE); $(COMPOSE) ps --all

feed-check: ## all mistakes of all feed files at once, with line numbers; FEED= FORMAT=json
	@exec sh local/ops.sh feed-check

feed-test: ## the feeds' own examples, without Kafka and Spark; FEED= ACCEPT=1 FORMAT=json
	@exec sh local/ops.sh feed-test

feed-new: ## a first feed file from a sample of a live topic; TOPIC=orders FEED= SAMPLE=10000 FORMAT=json
	@exec sh local/ops.sh feed-new

status: ## a row a sink: state, last batch, rows, lag, newest file; FEED= SINK= FORMAT=json
	@exec sh local/ops.sh status

show: ## the newest rows of each output; FEED= SINK= FORMAT=json
	@exec sh local/ops.sh show

query: ## SQL="..." over the outputs by DuckDB, a view per feed and layer; FEED= SINK= FORMAT=json|ndjson|csv
	@exec sh local/ops.sh query

quarantine: ## quarantined records by reason, with the newest of each; FEED= REASON= FORMAT=json
	@exec sh local/ops.sh quarantine

drift: ## fields of records that their feed does not declare; FEED= FORMAT=json
	@exec sh local/ops.sh drift

contract: ## the contract of a feed for other programs; FEED=sales FORMAT=odcs|jsonschema
	@exec sh local/ops.sh contract

lineage: ## where data comes from and goes to, as a flowchart of Mermaid; FEED= FORMAT=json has the columns
	@exec sh local/ops.sh lineage

psql: ## a shell on the database; FEED= SINK= show their tables first; SQL="..." runs a statement
	@exec sh local/psql.sh

history: ## the versions of Delta tables, with batch and offsets; FEED= SINK= MOST=20 FORMAT=json
	@exec sh local/ops.sh history

optimize: ## small files of Delta tables become large ones, sorted by cluster_by; FEED= SINK= FORMAT=json
	@exec sh local/ops.sh optimize

vacuum: ## delete what no version of a Delta table needs; FEED= SINK= YES=1 FORMAT=json
	@exec sh local/ops.sh vacuum

restore: ## a lost checkpoint is made again from its Delta table; FEED= SINK= YES=1 FORMAT=json
	@exec sh local/ops.sh restore

audit: ## reconcile every output with bronze: nothing lost, nothing twice; FEED= SINK= BATCH=1 LANDING= GOLD= FORMAT=json
	@exec sh local/ops.sh audit

replay: ## append quarantined records that pass by now; FEED= SINK= REASON= ALLOW=late DRY_RUN=1 FORMAT=json
	@exec sh local/ops.sh replay

reset: ## delete outputs and read again; FEED= SINK= TO=earliest|latest|<ISO time> YES=1 FORMAT=json
	@exec sh local/ops.sh reset

# Three at a time, the long ones first (tests/groups.py): a service that starts waits for more than it computes.
THREE_AT_A_TIME := --numprocesses=3 --dist=loadscope --no-loadscope-reorder
test: setup ## the tests, in twelve minutes: a real broker, a real spark-submit, no Docker
	@exec $(PYTHON) -m pytest $(THREE_AT_A_TIME) -m 'not faults' tests/service tests/spark tests/sinks tests/unit

test-faults: setup ## kills at each point and at random, brokers and disks that go, every place, an upgrade; half an hour
	@exec env EXAMPLES=all $(PYTHON) -m pytest $(THREE_AT_A_TIME) -m 'faults or hypothesis' tests/faults tests/service tests/spark tests/sinks tests/unit

check: venv ## linters and types
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff check --quiet --preview --select AIR dags
	@$(PYTHON) -m ruff format --check
	@$(PYTHON) -m mypy

bench: setup ## throughput against the usual design and the machine's limit; BENCH_RECORDS= BENCH_ROUNDS= BENCH_JSON= PLOT=1
	@exec $(PYTHON) -m tests.bench

soak: setup ## many small batches, then many random kills; SOAK_BATCHES=2000 SOAK_KILLS=200
	@exec $(PYTHON) -m tests.soak

browser-test: venv ## the page in Chromium: real outputs, real clicks; needs Chromium
	@exec $(PYTHON) -m pytest tests/browser

deploy-test: setup ## alerts, boards, what watches a running service, nginx before the API; needs prometheus, alertmanager, nginx, npm
	@exec $(PYTHON) -m pytest tests/deploy

prometheus: ## Prometheus with our rules on 9090, beside `make run METRICS_PORT=9108 BROKER_METRICS_PORT=5556`; needs prometheus
	@command -v prometheus >/dev/null || { echo "prometheus: is not installed; on Debian: apt-get install prometheus" >&2; exit 2; }
	@exec prometheus --config.file=deploy/prometheus/prometheus.yml --storage.tsdb.path=data/prometheus --web.listen-address=127.0.0.1:9090

alertmanager: ## Alertmanager on 9093, for what `make prometheus` finds; ALERTMANAGER_CONFIG=alerts.yml; needs alertmanager
	@program=$$(command -v alertmanager || command -v prometheus-alertmanager) || { echo "alertmanager: is not installed; on Debian: apt-get install prometheus-alertmanager" >&2; exit 2; }; \
	exec "$$program" --config.file="$${ALERTMANAGER_CONFIG:-deploy/alertmanager/alertmanager.yml}" --storage.path=data/alertmanager --web.listen-address=127.0.0.1:9093 --cluster.listen-address=

compose-test: venv ## `make up` and `make down` tested; needs Docker
	@exec $(PYTHON) -m pytest tests/compose

lock: ## pin again what pyproject.toml asks for; needs uv
	@command -v uv >/dev/null || { echo "lock: uv is needed; install it with: pip install uv" >&2; exit 2; }
	@uv pip compile -q --python-version 3.11 --generate-hashes --no-annotate --no-header pyproject.toml -o requirements.lock
	@uv pip compile -q --python-version 3.11 --generate-hashes --no-annotate --no-header requirements-airflow.in -o requirements-airflow.lock
	@uv pip compile -q --python-version 3.11 --generate-hashes --no-annotate --no-header requirements-airflow-compose.in -o requirements-airflow-compose.lock
	@uv pip compile -q --python-version 3.11 --generate-hashes --no-annotate --no-header --group dev pyproject.toml -o requirements-dev.lock
