"""The page in Chromium: what people see and click, over real outputs and the API's own process."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from playwright.sync_api import Page, Route, expect

from stream_app.storage.batch_files import REPLAY, batch_files
from tests.api_process import ApiProcess
from tests.browser.axe import serious
from tests.helpers import at, value
from tests.outputs import Output, Record
from tests.unit.served import MINUTES

Show = Callable[..., Page]
Serve = Callable[..., ApiProcess]
DAY = 86400
SECRET = "a secret of more than thirty-two bytes"
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


def test_the_flow_has_a_box_an_output_and_moves_with_each_batch(show: Show, served: Serve, output: Output) -> None:
    page = show(served(output.root).url)
    boxes = page.get_by_role("list", name="Outputs of transactions").get_by_role("button")
    assert [name.split("\n")[0] for name in boxes.all_inner_texts()] == [
        "bronze", "quarantine", "silver", "gold", "raw_csv",
    ]  # fmt: skip
    figures = page.get_by_role("region", name="In short")
    expect(figures).to_contain_text(f"{3 * MINUTES}")
    expect(figures).to_contain_text("33.33 %")
    expect(page.locator("#live")).to_contain_text("live")
    bronze = page.locator("[data-sink=bronze]")
    expect(bronze).to_contain_text(f"#{MINUTES - 1}")
    output.take([Record(value(900, 800), at(800))], at(805))
    expect(bronze).to_contain_text(f"#{MINUTES}")
    expect(page.locator("[data-sink=raw_csv]")).to_contain_text(f"#{MINUTES}")
    expect(page.locator("#throughput canvas")).to_be_visible()


def test_a_record_in_quarantine_shows_its_text_and_reasons_as_text(show: Show, served: Serve, output: Output) -> None:
    output.take([Record(value(900, 800, city=HOSTILE, currency="XXX", lat=900), at(800))], at(805))
    page = show(served(output.root).url)
    page.get_by_role("button", name=re.compile("out_of_range:lat")).click()
    record = page.locator("#samples article")
    expect(record).to_contain_text("onerror")
    expect(record.locator("pre mark")).to_contain_text(['"currency": "XXX"', '"lat": 900'])
    assert page.locator("#samples img").count() == 0
    assert page.title() == "transactions · Kafka medallion"


def test_records_of_other_days_are_told_apart(show: Show, served: Serve, output: Output) -> None:
    """A bucket of refused records takes up to a day, or more: without its date a bar could be of any."""
    for days in (10, 20):
        output.take([Record(value(900 + days, days * DAY, currency="XXX"), at(days * DAY))], at(days * DAY + 5))
    page = show(served(output.root).url)
    page.wait_for_selector("#refused canvas")
    labels = page.evaluate("echarts.getInstanceByDom(document.getElementById('refused')).getOption().xAxis[0].data")
    assert labels == [f"{at(day * DAY):%Y-%m-%d}" for day in range(21)]
    expect(page.get_by_role("img", name=re.compile("^Refused records of 2026-11-21 .* to 2026-12-11 "))).to_be_visible()
    expect(page.locator("#samples")).to_contain_text("2026-11-21 01:00:02 to 2026-12-11 01:00:00; the newest:")


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (30, ["01:00:00", "01:00:30"]),
        (3600, ["01:00", "02:00"]),
        (6 * 3600, ["11-21 01:00", "11-21 07:00"]),
        (86400, ["2026-11-21", "2026-11-22"]),
    ],
)
def test_ticks_of_a_chart_have_a_date_where_it_is_needed(
    show: Show, served: Serve, tmp_path: Path, seconds: int, labels: list[str]
) -> None:
    page = show(served(tmp_path).url)
    made = page.evaluate(
        "async ([times, step]) => (await import(new URL('static/dom.js', location))).ticks(times, step, 20 * step)",
        [[at(0).timestamp(), at(seconds).timestamp()], seconds],
    )
    assert made == labels


def test_a_replay_is_previewed_and_takes_what_was_shown(show: Show, served: Serve, output: Output, feeds: Path) -> None:
    page = show(served(output.root).url)
    page.get_by_role("button", name="Replay…").click()
    dialog = page.get_by_role("dialog", name="Replay of transactions")
    expect(dialog).to_contain_text("None passes by today's feed file")
    expect(dialog.get_by_role("button", name="Replay")).to_be_disabled()
    page.keyboard.press("Escape")
    file = feeds / "transactions.toml"
    file.write_text(file.read_text().replace('"ZAR"]', '"ZAR", "XXX"]'))
    page.get_by_role("button", name="Replay…").click()
    dialog.get_by_role("button", name=f"Take {MINUTES} records").click()
    expect(dialog).to_contain_text(f"{MINUTES} records are in the ledger. Silver takes them with the next start.")
    assert len(batch_files(output.flows["silver"].layout.replay, REPLAY)) == 1


def test_an_audit_is_started_and_read(show: Show, served: Serve, output: Output) -> None:
    page = show(served(output.root).url)
    expect(page.locator("#audit")).to_contain_text("No audit was started here yet")
    page.get_by_role("button", name="Audit now").click()
    expect(page.locator("#audit")).to_contain_text("Nothing lost, nothing twice")
    page.reload()
    expect(page.locator("#audit")).to_contain_text("Nothing lost, nothing twice")


def test_details_are_opened_and_closed_by_the_keyboard(show: Show, served: Serve, output: Output) -> None:
    page = show(served(output.root).url)
    page.locator("[data-sink=silver]").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="transactions.silver")
    expect(dialog).to_contain_text("exactly once")
    expect(dialog.get_by_role("cell", name="t111", exact=True)).to_be_visible()
    dialog.get_by_text("Lineage of 17 columns").press("Enter")
    made_of = dialog.get_by_role("table", name="Lineage")
    expect(made_of.get_by_role("row", name=re.compile("^event_time "))).to_contain_text("bronze.value (event_ts)")
    expect(dialog).to_contain_text("Which rows there are is decided by bronze.value (filter)")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert page.evaluate("document.activeElement.dataset.sink") == "silver"


def test_a_box_that_is_opened_at_once_has_its_lineage(show: Show, served: Serve, output: Output) -> None:
    page = show(served(output.root).url)
    held: list[Route] = []
    page.route("**/api/lineage?*", lambda route: route.continue_() if held else held.append(route))
    page.reload()
    silver = page.locator("[data-sink=silver]")
    expect(silver).to_contain_text(f"#{MINUTES - 1}")
    silver.click()
    expect(page.get_by_role("dialog", name="transactions.silver")).to_contain_text("Lineage of 17 columns")
    held.pop().continue_()


def test_the_contract_is_rendered_with_its_rules(show: Show, served: Serve, output: Output) -> None:
    page = show(served(output.root).url)
    fields = page.get_by_role("table", name="Fields")
    expect(fields.get_by_role("row", name=re.compile("^status "))).to_contain_text("one of approved, declined, pending")
    expect(page.get_by_role("table", name="What is derived")).to_contain_text("1 min by card_id")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_it_is_for_everyone(show: Show, served: Serve, output: Output, scheme: str, width: int) -> None:
    """axe finds nothing serious, and nothing is wider than a telephone."""
    page = show(served(output.root).url, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.wait_for_selector("#refused canvas")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_dialogs_are_for_everyone(show: Show, served: Serve, output: Output, scheme: str) -> None:
    api = served(output.root, API_JWT_SECRET=SECRET)
    page = show(api.url, is_ready=False, color_scheme=scheme)
    page.get_by_role("textbox", name="Token").fill("no token")
    assert serious(page) == []
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert serious(page) == []
    page.get_by_role("textbox", name="Token").fill(_token(scope="read operate"))
    page.get_by_role("button", name="Go on").click()
    silver = page.locator("[data-sink=silver]")
    expect(silver).to_contain_text(f"#{MINUTES - 1}")
    silver.click()
    dialog = page.get_by_role("dialog", name="transactions.silver")
    dialog.get_by_text("Lineage of 17 columns").press("Enter")
    expect(dialog.get_by_role("table", name="Newest rows")).to_be_visible()
    assert serious(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Replay…").click()
    expect(page.get_by_role("dialog", name="Replay of transactions")).to_contain_text("None passes")
    assert serious(page) == []


def test_the_description_of_the_api_is_for_everyone(show: Show, served: Serve, output: Output) -> None:
    """What there is closed, opened, and asked."""
    api = served(output.root)
    page = show(f"{api.url}/", is_ready=False)
    page.goto(f"{api.url}/docs")
    operation = page.locator(".opblock").filter(has_text="Tell what is made of what")
    expect(operation).to_be_visible()
    assert serious(page) == []
    operation.get_by_role("button").first.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.get_by_text("Server response")).to_be_visible()
    assert serious(page) == []


def test_the_theme_is_chosen_and_kept(show: Show, served: Serve, output: Output) -> None:
    page = show(served(output.root).url)
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 24)"


def test_an_empty_page_says_what_to_type(show: Show, served: Serve, tmp_path: Path) -> None:
    page = show(served(tmp_path / "nothing").url)
    expect(page.locator("#notice")).to_contain_text("No records yet.")
    expect(page.locator("#notice")).to_contain_text("Start the service, and a producer beside it: ")
    expect(page.locator("#notice code")).to_have_text("make run FEEDS=transactions")
    expect(page.locator("#reasons")).to_contain_text("No record breaks the contract.")


def test_a_feed_without_a_producer_names_its_topic(show: Show, served: Serve, feeds: Path, tmp_path: Path) -> None:
    """`make produce` refuses it."""
    text = (feeds / "transactions.toml").read_text()
    (feeds / "payments.toml").write_text(text.replace('topic = "transactions"', 'topic = "shop.payments"'))
    page = show(served(tmp_path / "nothing", FEEDS="transactions,payments").url)
    page.get_by_role("button", name="payments").click()
    notice = page.locator("#notice")
    expect(notice).to_contain_text(
        "Start the service: make run FEEDS=payments, and send records to its topic: shop.payments."
    )
    told = page.evaluate("fetch('api/status?feed=payments').then((answer) => answer.json())")
    for sink in told["sinks"]:
        sink["state"] = "running"
    page.route("**/api/status?*", lambda route: route.fulfill(json={**told, "is_running": True}))
    expect(notice).to_contain_text(
        "The service runs and waits for its topic. Send records to its topic: shop.payments."
    )


def test_a_token_is_asked_for_where_one_is_needed(show: Show, served: Serve, output: Output) -> None:
    claims = {"iss": "stream-app", "aud": "stream-app", "scope": "read", "exp": int(time.time()) + 600}
    token = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))
    api = served(output.root, API_JWT_SECRET=SECRET)
    page = show(api.url, is_ready=False)
    page.get_by_role("textbox", name="Token").fill(token)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("[data-sink=bronze]")).to_contain_text(f"#{MINUTES - 1}")
    expect(page.locator("#live")).to_contain_text("live")


def test_the_description_of_the_api_is_drawn(show: Show, served: Serve, output: Output) -> None:
    api = served(output.root)
    page = show(f"{api.url}/", is_ready=False)
    page.goto(f"{api.url}/docs")
    expect(page.get_by_text("Describe a feed")).to_be_visible()


def test_a_token_that_is_refused_says_why_and_makes_way_for_another(show: Show, served: Serve, output: Output) -> None:
    """Expired, or without the scope: a page that kept it would be of no use until its tab is closed."""
    page = show(served(output.root, API_JWT_SECRET=SECRET).url, is_ready=False, refused=(401, 403))
    field, go_on = page.get_by_role("textbox", name="Token"), page.get_by_role("button", name="Go on")
    field.fill(_token(exp=int(time.time()) - 600))
    go_on.click()
    expect(page.get_by_role("alert")).to_contain_text("expired")
    field.fill(_token(scope="nothing"))
    go_on.click()
    expect(page.get_by_role("alert")).to_contain_text("the token has not the scope read")
    field.fill(_token(scope="read"))
    go_on.click()
    expect(page.locator("#live")).to_contain_text("live")
    page.get_by_role("button", name="Audit now").click()
    expect(page.get_by_role("alert")).to_contain_text("the token has not the scope operate")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#audit")).to_contain_text("the token has not the scope operate")
    page.get_by_role("button", name="Audit now").click()
    field.fill(_token(scope="operate"))
    go_on.click()
    expect(page.locator("#audit")).to_contain_text(re.compile("Judging every record|Nothing lost"))


def _token(**claims: object) -> str:
    usual = {"iss": "stream-app", "aud": "stream-app", "scope": "read", "exp": int(time.time()) + 600}
    return jwt.encode({"alg": "HS256"}, {**usual, **claims}, OctKey.import_key(SECRET))


def test_an_audit_is_followed_after_a_reload(show: Show, served: Serve, output: Output) -> None:
    api = served(output.root)
    page = show(api.url)
    held = {"id": "x", "feed": "transactions", "sink": "", "state": "running", "started": "2026-11-21T01:00:00Z"}
    page.route("**/api/audit", lambda route: route.fulfill(json=[{**held, "judged": 5, "records": 36}]))
    page.route("**/api/audit/x", lambda route: route.fulfill(json={**held, "state": "failed", "error": "it was ended"}))
    page.reload()
    expect(page.locator("#audit")).to_contain_text("it was ended")
    expect(page.get_by_role("button", name="Audit now")).to_be_enabled()


def test_a_page_waits_for_an_api_that_is_away_at_its_start(show: Show, served: Serve, output: Output) -> None:
    page = show(served(output.root).url, refused=(503,))
    is_away = [True]

    def away(route: Route) -> None:
        if is_away:
            route.fulfill(status=503, json={"detail": "it starts"}, content_type="application/problem+json")
        else:
            route.continue_()

    page.route("**/api/feeds", away)
    page.reload()
    expect(page.locator("#notice")).to_contain_text("The page cannot be shown yet. it starts")
    is_away.clear()
    expect(page.locator("[data-sink=bronze]")).to_contain_text(f"#{MINUTES - 1}")
    expect(page.locator("#notice")).to_contain_text("The service does not run.")
    expect(page.locator("#notice code")).to_have_text("make app FEEDS=transactions")


def test_a_service_that_starts_is_told_from_one_that_waits(show: Show, served: Serve, tmp_path: Path) -> None:
    page = show(served(tmp_path / "nothing").url)
    told = page.evaluate("fetch('api/status?feed=transactions').then((answer) => answer.json())")
    for sink in told["sinks"]:
        sink["state"] = "starting"
    page.route("**/api/status?*", lambda route: route.fulfill(json={**told, "is_running": True}))
    expect(page.locator("#notice")).to_contain_text("The service starts.")
    for sink in told["sinks"]:
        sink["state"] = "running"
    expect(page.locator("#notice")).to_contain_text("The service runs and waits for its topic.")
    expect(page.locator("#notice")).to_contain_text("Send it some: make produce FEED=transactions.")


def test_fifty_feeds_leave_room_for_one(show: Show, served: Serve, output: Output, feeds: Path) -> None:
    text = (feeds / "transactions.toml").read_text()
    names = [f"feed_with_a_long_name_{i}" for i in range(49)]
    for name in names:
        (feeds / f"{name}.toml").write_text(text.replace('topic = "transactions"', f'topic = "{name}"'))
    api = served(output.root, FEEDS=",".join(["transactions", *names]))
    page = show(api.url, viewport={"width": 390, "height": 844})
    assert page.locator("#figures").bounding_box()["y"] < 400  # type: ignore[index] # it is there
    expect(page.locator("#live")).to_contain_text("live")
    page.get_by_role("button", name=names[-1]).click()
    expect(page.locator("#notice")).to_contain_text("No records yet.")
    expect(page.locator("#contract-hint")).to_contain_text(f"topic {names[-1]}")
    page.get_by_role("button", name="transactions", exact=True).click()
    bronze = page.locator("[data-sink=bronze]")
    expect(bronze).to_contain_text(f"#{MINUTES - 1}")
    output.take([Record(value(900, 800), at(800))], at(805))
    expect(bronze).to_contain_text(f"#{MINUTES}")
