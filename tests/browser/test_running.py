"""What the page says of a service that runs, by statuses as one tells them; the clock of the page stands still."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.api_process import ApiProcess
from tests.helpers import at, value
from tests.outputs import Record
from tests.unit.served import MINUTES, filled

Show = Callable[..., Page]
Serve = Callable[..., ApiProcess]
MORE_SINKS = """
[sinks.table]
of = "silver"
to = "delta"

[sinks.forwarded]
of = "silver"
to = "kafka"
topic = "transactions_valid"
"""
NEWEST = 60 * MINUTES + 5
"""When the newest batch is planned, a minute after the one before."""
NOW = NEWEST + 30
"""By the page's clock: that batch's records came in ninety seconds."""


def _iso(second: float) -> str:
    return f"{at(second):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def service(show: Show, served: Serve, feeds: Path, tmp_path: Path) -> _Service:
    return _Service(show, served, feeds, tmp_path / "out")


class _Service:
    """A page of transactions, to which statuses are told as those of a service that runs."""

    def __init__(self, show: Show, served: Serve, feeds: Path, root: Path) -> None:
        file = feeds / "transactions.toml"
        file.write_text(file.read_text() + MORE_SINKS)
        output = filled(root, feeds)
        good = [value(1000 + n, NEWEST - 30) for n in range(59)]
        late = Record(value(2000, 0), at(60))
        refused = [Record(value(3000 + n, NEWEST - 30, currency="XXX"), at(NEWEST - 30)) for n in range(30)]
        output.take([*(Record(one, at(NEWEST - 30)) for one in good), late, *refused], at(NEWEST))
        api = served(root)
        self.page = show(api.url)
        self._told = api.get("/api/status?feed=transactions")
        self._told["is_running"] = True
        for sink in self._told["sinks"]:
            sink |= {"state": "running", "behind": 0, "last_batch_age": 30.0}
        self._history = api.get("/api/history?feed=transactions")
        self._history["samples"] = []
        self.page.route("**/api/status?*", lambda route: route.fulfill(json=self._told))
        self.page.route("**/api/history?*", lambda route: route.fulfill(json=self._history))
        self.page.clock.set_fixed_time(at(NOW))

    def tell(self, sink: str, **status: Any) -> None:
        next(one for one in self._told["sinks"] if one["sink"] == sink).update(status)

    def sampled(self, behind: dict[str, int], lag_seconds: dict[str, float]) -> None:
        """Have these be the history, of two times; a page whose clock stands still asks for it once."""
        names = [name.partition(".")[2] for name in self._history["flows"]]
        of = {"behind": [behind.get(name) for name in names], "lag_seconds": [lag_seconds.get(name) for name in names]}
        one = {**of, "rows": [None] * len(names)}
        self._history["samples"] = [{**one, "time": _iso(second)} for second in (NOW - 5, NOW)]
        self.page.reload()

    def box(self, sink: str) -> Locator:
        return self.page.locator(f"[data-sink={sink}]")


def test_a_box_says_state_rate_batch_and_what_waits_whatever_the_sink_is(service: _Service) -> None:
    service.tell("bronze", behind=12_345)
    service.tell("gold", complete_up_to="2026-11-21T01:07:00Z")
    saying: dict[str, str | re.Pattern[str]] = {
        "bronze": "1.0/s · 12.3K behind", "silver": "0.7/s · 30 s", "quarantine": "0.3/s · 30 s",
        "raw_csv": "0.7/s · 30 s", "table": "0.7/s · 30 s", "forwarded": "0.7/s · 30 s",
        "gold": re.compile(r"^\d\.\d/s · to 01:07:00$"),
    }  # fmt: skip
    for sink, said in saying.items():
        box = service.box(sink)
        expect(box).to_have_attribute("data-state", "running")
        expect(box.locator(".said")).to_have_text(said)
        expect(box.locator(".batch")).to_have_text(f"#{MINUTES}")
    label = f"bronze, running, newest batch {MINUTES}, 30 s ago, 12345 behind"
    expect(service.box("bronze")).to_have_attribute("aria-label", label)


def test_the_flow_shows_the_topic_that_a_sink_writes(service: _Service) -> None:
    topics = service.page.locator("#boxes .outside .name")
    expect(topics).to_have_text(["transactions", "transactions_valid"])


def test_a_sink_that_is_restarted_or_failed_is_told_from_one_that_runs(service: _Service) -> None:
    service.tell("silver", state="restarting", restarts=2, behind=7, last_error="the disk is full")
    service.tell("table", state="failed", behind=40, last_error="the store refuses the key")
    for sink, state, said in (
        ("bronze", "running", "1.0/s · 30 s"),
        ("silver", "restarting", "restarting · 7 behind"),
        ("table", "failed", "failed · 40 behind"),
    ):
        expect(service.box(sink)).to_have_attribute("data-state", state)
        expect(service.box(sink).locator(".said")).to_have_text(said)
    colours = {
        service.box(sink).evaluate("box => getComputedStyle(box).borderLeftColor")
        for sink in ("bronze", "silver", "table")
    }
    assert len(colours) == 3
    notice = service.page.locator("#notice")
    expect(notice).to_contain_text("silver restarting. the disk is full")
    expect(notice).to_contain_text("table failed. the store refuses the key")
    expect(service.box("table")).to_have_attribute("title", "the store refuses the key")
    service.box("silver").click()
    expect(service.page.get_by_role("dialog", name="transactions.silver")).to_contain_text("restarting, 2 restarts")


def test_figures_and_charts_say_how_fast_how_far_behind_how_fresh_and_how_complete(service: _Service) -> None:
    service.tell("bronze", behind=12_345)
    service.tell("gold", complete_up_to="2026-11-21T01:07:00Z")
    service.sampled({"bronze": 12_345, "silver": 8, "gold": 9}, {"silver": 31.2, "gold": 340})
    page = service.page
    for title, said in {
        "Records": "126in bronze", "Throughput": "1.0records a second", "Lag": "12,345records wait",
        "Freshness": "60 ssince silver's newest", "Quarantine": "33.33 %42 records",
        "Final up to": "01:07:00UTC, all windows",
    }.items():  # fmt: skip
        figure = page.locator(".figure").filter(has=page.get_by_role("heading", name=title, exact=True))
        expect(figure).to_have_text(title + said)
    charts: dict[str, str | re.Pattern[str]] = {
        "lag": "Newest values: bronze 12.3K, silver 8, gold 9",
        "freshness": "Newest values: silver 31 s, gold 340 s",
        "throughput": re.compile("^Newest values: bronze 2, silver 1, quarantine 1$"),
    }
    for chart, label in charts.items():
        expect(page.locator(f"#{chart}")).to_have_attribute("aria-label", label)
        expect(page.locator(f"#{chart} canvas")).to_be_visible()
    late = page.get_by_role("table", name="Late rows").get_by_role("row")
    assert late.nth(1).inner_text().split("\t") == ["gold", "1", "01:00:00 to 01:01:00", "2026-11-21 01:01:00"]
    service.box("silver").click()
    dialog = page.get_by_role("dialog", name="transactions.silver")
    newest = dialog.locator("dt", has_text="newest taken, by partition").locator("xpath=following-sibling::dd[1]")
    expect(newest).to_have_text(re.compile(r"^0: 01:11:35, 1: 01:11:01$"))


def test_the_time_of_batches_that_are_untold_slows_no_other(service: _Service) -> None:
    """Spark purges its log: what a batch took cannot be spread over all that came before it and is not known."""
    told = [{"feed": "transactions", "sink": "bronze", "batch": n, "time": _iso(n), "rows": 10} for n in (1, 2, 3)]
    told.append({"feed": "transactions", "sink": "bronze", "batch": 90, "time": _iso(200), "rows": 10})
    body = "".join(f"event: batch\nid: {n}\ndata: {json.dumps(one)}\n\n" for n, one in enumerate(told))
    service.page.route(
        "**/api/events?*", lambda route: route.fulfill(body=body, headers={"Content-Type": "text/event-stream"})
    )
    service.page.reload()
    rates = service.page.locator("#throughput")
    expect(rates).to_have_attribute("aria-label", re.compile("^Newest values: bronze 10,"))


def test_a_time_that_is_not_of_today_has_its_date(service: _Service) -> None:
    service.page.clock.set_fixed_time(at(NOW) + timedelta(days=1))
    service.tell("gold", complete_up_to="2026-11-21T01:07:00Z")
    page = service.page
    expect(service.box("gold").locator(".said")).to_have_text("0.0/s · to 2026-11-21")
    expect(service.box("gold")).to_have_attribute("title", "gold: running, final up to 2026-11-21 01:07:00")
    expect(page.locator(".figure", has_text="Final up to")).to_contain_text("2026-11-21, UTC, all windows")
    expect(page.get_by_role("table", name="Late rows")).to_contain_text("2026-11-21 01:00:00 to 01:01:00")
    expect(page.locator("#samples")).to_contain_text("2026-11-21 01:00:02 to 01:11:35")
    service.box("silver").click()
    expect(page.get_by_role("dialog", name="transactions.silver")).to_contain_text("0: 2026-11-21 01:11:35")
