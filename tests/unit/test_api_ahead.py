"""What was asked before is answered ahead of the framework: the same, by the same rules, until something changes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stream_app.api.ahead import Ahead
from stream_app.settings import PROJECT
from tests.helpers import at, value
from tests.outputs import Output, Record
from tests.unit.served import served
from tests.unit.test_api_guard import SECRET, token

SILVER = "/api/feeds/transactions/silver"
BEYOND = 599


@pytest.fixture
def output(minutes: Output, tmp_path: Path) -> Output:
    made = minutes.copied(tmp_path / "out")
    settled(tmp_path / "out")
    return made


def settled(root: Path) -> None:
    """Have its folders changed a second ago: what has just changed is looked at anew for a moment."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        os.utime(folder, ns=(0, time.time_ns() - 10**9))


def ahead_of(client: TestClient) -> Callable[..., Any]:
    """Ask only what is before the framework; it answers 599 for what it hands on."""
    app = client.app
    assert isinstance(app, FastAPI)
    found: Any = app.middleware_stack
    while not isinstance(found, Ahead):
        found = vars(found).get("app") or vars(found)["_app"]

    async def beyond(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=BEYOND)(scope, receive, send)

    framework, ahead = found._app, found

    def ask(path: str, headers: Any = None) -> Any:
        ahead._app = beyond
        try:
            return client.get(path, headers=headers)
        finally:
            ahead._app = framework

    return ask


@pytest.fixture
def client(output: Output) -> Iterator[TestClient]:
    with served(output.root) as client:
        yield client


def test_what_was_asked_before_needs_no_framework(client: TestClient) -> None:
    ahead = ahead_of(client)
    for path in (
        SILVER,
        f"{SILVER}?limit=1&status=approved",
        "/api/quarantine",
        "/api/late",
        "/api/quarantine/history",
    ):
        assert ahead(path).status_code == BEYOND
        first = client.get(path)
        again = ahead(path)
        assert (again.status_code, again.content, again.headers) == (200, first.content, first.headers)
        assert ahead(path, {"If-None-Match": first.headers["etag"]}).status_code == 304
    assert ahead(f"{SILVER}?limit=2").status_code == BEYOND
    assert ahead(SILVER, {"Accept": "text/csv"}).status_code == BEYOND
    assert client.get(SILVER, headers={"Accept": "text/csv"}).headers["content-type"].startswith("text/csv")
    assert ahead(SILVER, {"Accept": "text/csv"}).headers["content-type"].startswith("text/csv")


def test_it_is_counted_by_its_route(client: TestClient) -> None:
    ahead = ahead_of(client)
    client.get(SILVER)
    before = client.get("/metrics").text
    assert ahead(SILVER).status_code == client.head(SILVER).status_code == 200
    after = client.get("/metrics").text
    for method, more in (("GET", 1), ("HEAD", 1)):
        line = (
            f'stream_app_api_requests_total{{method="{method}",route="/api/feeds/{{feed}}/{{dataset}}",status="200"}}'
        )
        assert _count(after, line) == _count(before, line) + more


def _count(text: str, line: str) -> float:
    return next((float(one.rpartition(" ")[2]) for one in text.splitlines() if one.startswith(line)), 0.0)


def test_new_rows_are_another_answer(client: TestClient, output: Output) -> None:
    ahead = ahead_of(client)
    before = client.get(f"{SILVER}?limit=1")
    assert ahead(f"{SILVER}?limit=1").content == before.content
    output.take([Record(value(500, 900), at(900))], at(905))
    assert ahead(f"{SILVER}?limit=1").status_code == BEYOND
    assert client.get(f"{SILVER}?limit=1").content != before.content


def test_a_changed_feed_file_is_another_answer(tmp_path: Path, output: Output) -> None:
    feeds = tmp_path / "feeds"
    shutil.copytree(PROJECT / "conf" / "feeds", feeds)
    with served(output.root, service={"feeds_path": feeds}) as client:
        ahead = ahead_of(client)
        client.get("/api/late")
        assert ahead("/api/late").status_code == 200
        file = feeds / "transactions.toml"
        file.write_text(f"{file.read_text()}\n# seen\n")
        assert ahead("/api/late").status_code == BEYOND
        assert client.get("/api/late").status_code == ahead("/api/late").status_code == 200
        file.write_text("not toml")
        assert ahead("/api/late").status_code == BEYOND


def test_nothing_that_was_asked_before_is_told_to_who_may_not_read(output: Output) -> None:
    """Of any path: whoever adds one finds it here."""
    with served(output.root, api_jwt_secret=SECRET) as client:
        ahead, expired = ahead_of(client), token(exp=int(time.time()) - 3600)
        paths = [path for path, one in client.get("/openapi.json").json()["paths"].items() if "get" in one]
        names = {"{feed}": "transactions", "{dataset}": "silver", "{identity}": "x"}
        known = []
        for path in paths:
            for name, one in names.items():
                path = path.replace(name, one)  # noqa: PLW2901 - its names filled in
            if path == "/api/events":
                continue
            client.get(path, headers=token())
            known += [path] if ahead(path, token()).status_code == 200 else []
            for headers in ({}, expired, token(scope="other"), token(iss="other"), {"Authorization": "Basic x"}):
                assert ahead(path, headers).status_code == BEYOND
                assert client.get(path, headers=headers).status_code in {401, 403}, path
        assert SILVER in known
        assert len(known) >= 4


def test_another_host_is_refused_whatever_is_remembered(client: TestClient) -> None:
    client.get(SILVER)
    assert ahead_of(client)(SILVER, {"Host": "evil.example"}).status_code == 421
    assert client.get(SILVER, headers={"Host": "evil.example"}).status_code == 421


def test_a_bounded_number_of_questions_is_kept(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_app.api.questions._MOST", 2)
    ahead = ahead_of(client)
    for limit in (1, 2, 3):
        client.get(f"{SILVER}?limit={limit}")
    assert [ahead(f"{SILVER}?limit={limit}").status_code for limit in (1, 2, 3)] == [BEYOND, 200, 200]
    long = f"{SILVER}?limit=5&{'&'.join(['status=approved'] * 150)}"
    assert client.get(long).status_code == 200
    assert ahead(long).status_code == BEYOND
