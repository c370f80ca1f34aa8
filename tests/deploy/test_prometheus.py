"""The alerts: each is of metrics that there are, fires and resolves by promtool, and has a heading of the docs."""

from __future__ import annotations

import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from local.ports import is_free
from stream_app.api.app import application
from stream_app.observe.metrics import Metrics
from stream_app.observe.monitor import Monitor
from stream_app.settings import PROJECT
from tests.deploy.watchers import PORTS, configure, made
from tests.helpers import app_settings, wait_until
from tests.ports import free_port
from tests.unit.served import HERE, filled, own

FOLDER = PROJECT / "deploy" / "prometheus"
GROUPS = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
MAKEFILE = (PROJECT / "Makefile").read_text()
TEST_FILES = sorted(FOLDER.glob("rules*_test.yml"))
TESTS = [test for file in TEST_FILES for test in yaml.safe_load(file.read_text())["tests"]]


def promtool(*arguments: str) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.fail("make deploy-test: promtool is needed; install it, on Debian with: apt-get install prometheus")
    done = subprocess.run([tool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_in_order_and_each_fires_and_resolves() -> None:
    for scraping in ("prometheus.yml", "compose.yml"):
        promtool("check", "config", scraping)
    promtool("test", "rules", *(file.name for file in TEST_FILES))


def test_each_branch_of_each_alert_is_tested_to_fire_and_to_resolve() -> None:
    for alert, rule in ALERTS.items():
        branches = re.findall(r"^ +or \(|^\(", rule["expr"], re.MULTILINE)
        cases = [test for test in TESTS if re.fullmatch(rf"{alert}(, .+)?", test["name"])]
        assert len(cases) == max(1, len(branches)), alert
        for case in cases:
            fires, resolves = case["alert_rule_test"]
            assert {one["alertname"] for one in (fires, resolves)} == {alert}
            assert fires["exp_alerts"], case["name"]
            assert not resolves["exp_alerts"], case["name"]


def test_each_alert_says_what_to_type_and_leads_to_a_heading() -> None:
    headings = set(re.findall(r"^### (\w+)$", (PROJECT / "docs" / "operations.md").read_text(), re.MULTILINE))
    for alert, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        said = re.sub(r"\{\{.*?\}\}", "x", rule["annotations"]["summary"])
        commands = re.findall(r"\bmake ([a-z-]+)((?: [A-Z_]+=\w+)*)", said)
        assert commands, alert
        for target, given in commands:
            assert f"\n{target}:" in MAKEFILE, alert
            names = re.findall(r"[A-Z_]+(?==)", given)
            asked = ["sh", "local/options.sh", target, *(names or ["FEEDS"])]
            assert subprocess.check_output(asked, cwd=PROJECT, text=True) == "", alert
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{alert.lower()}"
    assert [alert for alert in ALERTS if alert not in headings] == []


def test_each_metric_is_one_that_the_service_or_the_api_has(tmp_path: Path) -> None:
    output = filled(tmp_path)
    texts = [Metrics(Monitor(tuple(output.flows.values())), 10)._metrics()[2].decode()]
    with TestClient(application(app_settings(tmp_path), own()), base_url=HERE) as client:
        client.get("/api/status")
        texts.append(client.get("/metrics").text)
    known = {"up", *(rule["record"] for rule in RULES if "record" in rule)}
    for text in texts:
        for family in text_string_to_metric_families(text):
            known |= {family.name, *(sample.name for sample in family.samples)}
            known |= {f"{family.name}_total"} if family.type == "counter" else set()
    asked = {name for rule in RULES for name in re.findall(r"\b(?:[a-z_]+:)?stream_app\w+(?::\w+)?", rule["expr"])}
    assert asked
    assert asked - known == set()


@pytest.mark.parametrize("target", ["prometheus", "alertmanager"])
def test_make_starts_it_and_ctrl_c_ends_it(target: str, tmp_path: Path) -> None:
    ports = {name: free_port() for name in PORTS}
    configure(tmp_path, ports)
    with made(target, tmp_path) as process:
        wait_until(lambda: process.poll() is not None or is_ready(ports[target]), 60, target)
        assert process.poll() is None, (tmp_path / f"{target}.log").read_text()
        assert (tmp_path / "data" / target).is_dir()
    assert is_free(ports[target])


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
