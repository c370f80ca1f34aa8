"""A Chromium, and pages of the API's own process over real outputs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.api_process import ApiProcess
from tests.outputs import Output
from tests.unit.served import filled

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_PATIENCE_MS = 180_000
"""For whatever is waited for: a page asks again each few seconds, on a busy machine. Playwright's own is 5 s."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium of this machine; playwright's own would be a download."""
    if CHROMIUM is None:
        pytest.fail("make browser-test: Chromium is needed; install it, on Debian with: apt-get install chromium")
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return filled(tmp_path / "out")


@pytest.fixture
def served(feeds: Path) -> Iterator[Callable[..., ApiProcess]]:
    """A function that serves an output folder."""
    made: list[ApiProcess] = []

    def serve(root: Path, **environment: str) -> ApiProcess:
        made.append(ApiProcess(root, {"FEEDS_PATH": str(feeds), **environment}))
        made[-1].start()
        return made[-1]

    yield serve
    for api in made:
        api.end()


@pytest.fixture
def show(browser: Browser, served: Callable[..., ApiProcess]) -> Iterator[Callable[..., Page]]:  # noqa: ARG001 - it ends later
    """A function that opens a page, which may log no error, break no rule of its policy and ask no other host.

    `refused` are the statuses of requests that the test has refused: Chromium logs each.
    """
    pages: list[Page] = []
    wrong: list[str] = []

    def opened(url: str, *, is_ready: bool = True, refused: tuple[int, ...] = (401,), **options: Any) -> Page:
        def noted(text: str) -> None:
            if not any(f"the server responded with a status of {status} " in text for status in refused):
                wrong.append(text)

        page = browser.new_page(**{"viewport": {"width": 1400, "height": 900}, **options})
        page.set_default_timeout(_PATIENCE_MS)
        pages.append(page)
        page.on("console", lambda said: noted(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith((url, "data:")) else wrong.append(asked.url))
        page.goto(url)
        if is_ready:
            page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    for page in pages:
        page.close()
    assert wrong == []
