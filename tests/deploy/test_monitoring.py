"""What watches the service, tried for real: targets, panels, and an alert that arrives and resolves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.boards import BOARDS, POSTGRES, PROMETHEUS, questions
from tests.deploy.stack import Watched, watched
from tests.deploy.test_prometheus import RULES
from tests.service.harness import wait_for

# A broker that comes back, its scrape, two rules, and a machine that is busy.
_PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder: Path = tmp_path_factory.mktemp("watched")
    with watched(folder) as made:
        yield made


def test_every_target_is_up(stack: Watched) -> None:
    jobs = ["kafka", "prometheus", "stream-app", "stream-app-api"]
    wait_for(
        lambda: sorted(one["metric"]["job"] for one in stack.query("up == 1")) == jobs,
        "four targets that are up",
        _PATIENCE_SECONDS,
    )


@pytest.mark.parametrize(
    ("panel", "expression"),
    [
        pytest.param(one.panel, one.text, id=f"{board}-{one.panel}-{number}")
        for board in BOARDS
        for number, one in enumerate(questions(board, PROMETHEUS))
    ],
)
def test_each_panel_gets_a_series(stack: Watched, panel: str, expression: str) -> None:
    wait_for(lambda: stack.query(expression), f"a series for {panel}: {expression}", _PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("panel", "sql"), [pytest.param(one.panel, one.text, id=one.panel) for one in questions("sales", POSTGRES)]
)
def test_each_panel_of_the_sales_gets_rows(stack: Watched, panel: str, sql: str) -> None:
    def rows() -> list[tuple[object, ...]]:
        found = stack.database.query(sql)
        return [row for row in found if None not in row]

    wait_for(lambda: stack.has_tables() and rows(), f"rows for {panel}", _PATIENCE_SECONDS)


def test_each_metric_of_the_brokers_that_a_rule_names_is_there(stack: Watched) -> None:
    asked = {name for rule in RULES for name in re.findall(r"\bkafka_\w+", rule["expr"])}
    assert len(asked) > 4
    wait_for(lambda: asked <= stack.names(), f"all of {sorted(asked)}", _PATIENCE_SECONDS)


def test_records_are_in_silver_in_time(stack: Watched) -> None:
    """History from before bronze began is not counted; what comes now is."""
    counted = "stream_app_records_taken_total{feed='transactions'} > 0"
    wait_for(lambda: stack.query(counted), "records that count", _PATIENCE_SECONDS)


def test_a_broker_that_stops_is_told_and_resolved_when_it_is_back(stack: Watched) -> None:
    told = stack.receiver
    wait_for(lambda: stack.query('up{job="kafka"} == 1'), "a broker that is watched", _PATIENCE_SECONDS)
    stack.broker.stop()
    wait_for(lambda: told.of("BrokerAway", "firing"), "the alert", _PATIENCE_SECONDS)
    (alert, *_) = told.of("BrokerAway", "firing")
    assert alert["labels"]["severity"] == "page"
    assert "start it: make broker" in alert["annotations"]["summary"]
    assert alert["annotations"]["runbook"] == "docs/operations.md#brokeraway"
    assert not told.of("BrokerAway", "resolved")
    wait_for(lambda: stack.query('up{job="stream-app"} == 1'), "the service, which is there", _PATIENCE_SECONDS)
    stack.broker.start()
    wait_for(lambda: told.of("BrokerAway", "resolved"), "the alert to be resolved", _PATIENCE_SECONDS)
    stack.service.stop()
