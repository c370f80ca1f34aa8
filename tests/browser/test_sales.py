"""The sales charts in Chromium: each has a table, follows the tables, and is there for this feed alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.api_process import ApiProcess
from tests.browser.axe import serious
from tests.tables import append
from tests.unit.sold import hour, sold

Show = Callable[..., Page]
Serve = Callable[..., ApiProcess]
CHARTS = ("sales-hours", "sales-products", "sales-countries")


def test_sales_are_drawn_by_hour_by_product_and_by_country_and_each_chart_has_a_table(
    show: Show, served: Serve, tmp_path: Path
) -> None:
    sold(tmp_path)
    page = show(served(tmp_path, FEEDS="transactions,sales").url)
    page.get_by_role("button", name="sales").click()
    sales = page.get_by_role("region", name="Sales")
    expect(sales).to_contain_text("180.30 in all, 5 pieces")
    for chart in CHARTS:
        expect(page.locator(f"#{chart} canvas")).to_be_visible()
    expect(
        sales.get_by_role("img", name=re.compile("^Revenue by hour in UTC: 10:00 30.30, 11:00 75.00"))
    ).to_be_visible()
    for summary in sales.get_by_text("As a table").all():
        summary.press("Enter")
    hours = sales.get_by_role("table", name="Revenue by hour").get_by_role("row")
    assert [row.split("\t") for row in hours.all_inner_texts()][1:] == [
        ["2025-12-22 12:00", "75.00", "1"], ["2025-12-22 11:00", "75.00", "1"], ["2025-12-22 10:00", "30.30", "3"],
    ]  # fmt: skip
    best = sales.get_by_role("table", name="Best products").get_by_role("row")
    assert [row.split("\t") for row in best.all_inner_texts()][1:] == [["Clavier", "150.00"], ["Souris", "30.30"]]
    pairs = sales.get_by_role("table", name="Products by country")
    expect(pairs.get_by_role("row", name=re.compile("Souris Spain"))).to_contain_text("20.20")
    page.get_by_role("button", name="transactions").click()
    expect(sales).to_be_hidden()


def test_the_flow_shows_what_is_looked_up(show: Show, served: Serve, tmp_path: Path) -> None:
    sold(tmp_path)
    page = show(served(tmp_path, FEEDS="sales").url)
    for lookup in ("clients", "produits"):
        expect(page.locator(f"[data-lookup={lookup}]")).to_contain_text(lookup)
    expect(page.locator("#boxes path.looked-up")).to_have_count(2)
    told = page.evaluate("fetch('api/status?feed=sales').then((answer) => answer.json())")
    told["sinks"][0]["lookups"] = [{"lookup": "clients", "snapshot": "a", "rows": 1200, "age": 300}]
    page.route("**/api/status?*", lambda route: route.fulfill(json=told))
    expect(page.locator("[data-lookup=clients]")).to_contain_text("1,200 rows · 5 min")


def test_a_batch_of_sales_moves_the_charts(show: Show, served: Serve, tmp_path: Path) -> None:
    made = sold(tmp_path)
    page = show(served(tmp_path, FEEDS="sales").url)
    hours = page.locator("#sales-hours")
    expect(hours).to_have_attribute("aria-label", re.compile("12:00 75.00$"))
    start = hour(13)
    row = {"total_montant": Decimal("9.90"), "total_quantite": 1, "heure": start, "final": False}
    append(made["hourly_sales"], 1, [{**row, "window_start": start, "window_end": start + timedelta(hours=1)}])
    expect(hours).to_have_attribute("aria-label", re.compile("13:00 9.90$"))


def test_without_sales_it_says_what_to_type(show: Show, served: Serve, tmp_path: Path) -> None:
    page = show(served(tmp_path, FEEDS="sales").url)
    expect(page.locator("#sales-empty")).to_contain_text("No sales yet.")
    expect(page.locator("#sales-empty code")).to_have_text("make run FEEDS=sales")
    expect(page.locator("#sales-charts")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_they_are_for_everyone(show: Show, served: Serve, tmp_path: Path, scheme: str, width: int) -> None:
    """axe finds nothing serious, with the tables open and closed, and nothing is wider than a telephone."""
    sold(tmp_path)
    page = show(served(tmp_path, FEEDS="sales").url, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.wait_for_selector("#sales-countries canvas")
    for _ in range(2):
        assert serious(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for summary in page.locator("#sales").get_by_text("As a table").all():
            summary.click()


def test_the_history_is_asked_for_no_more_often_than_it_has_samples(show: Show, served: Serve, tmp_path: Path) -> None:
    made = sold(tmp_path)
    page = show(served(tmp_path, FEEDS="sales").url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    for batch in range(1, 4):
        append(
            made["top_produits"],
            batch,
            [{"produit_nom": f"p{batch}", "total_montant": Decimal(1), "total_quantite": 1, "nombre_ventes": 1}],
        )
        with page.expect_request(lambda request: "top_products" in request.url):
            page.evaluate("dispatchEvent(new Event('resize'))")
    assert asked.count("history") <= asked.count("status") / 2 + 1
