"""HEAD is answered wherever GET is, as HTTP has it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute, Route

from tests.api_process import ApiProcess
from tests.outputs import Output
from tests.unit.served import served

NAMES = {"{feed}": "transactions", "{dataset}": "silver", "{identity}": "x"}
LIVE = "/api/events"
CHANGING = {"/metrics", "/api/status"}


@pytest.fixture(scope="module")
def root(minutes: Output) -> Path:
    return minutes.root


def paths(client: TestClient) -> set[str]:
    """Every path that has GET: of the description, and what that leaves out."""
    assert isinstance(client.app, FastAPI)
    found = {path for path, one in client.get("/openapi.json").json()["paths"].items() if "get" in one}
    found |= {path for route in client.app.routes if (path := _path(route))} | {"/static/app.css", "/static/main.js"}
    for name, one in NAMES.items():
        found = {path.replace(name, one) for path in found}
    return found


def _path(route: BaseRoute) -> str:
    return route.path if isinstance(route, Route) and "GET" in (route.methods or ()) else ""


def test_head_is_get_without_a_body(root: Path) -> None:
    with served(root) as client:
        asked = paths(client)
        assert {"/", "/docs", "/healthz", "/metrics", "/openapi.json", LIVE, "/api/status"} <= asked
        for path in sorted(asked):
            head = client.head(path)
            assert head.content == b"", path
            if path == LIVE:
                assert (head.status_code, head.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
                continue
            got = client.get(path)
            assert (head.status_code, head.headers.keys()) == (got.status_code, got.headers.keys()), path
            if path not in CHANGING:
                assert head.headers == got.headers, path
        assert client.head("/nowhere").status_code == 404


ALLOWED = {
    "/api/status": "GET, HEAD, OPTIONS",
    "/api/feeds/transactions/silver": "GET, HEAD, OPTIONS",
    "/static/app.css": "GET, HEAD, OPTIONS",
    "/": "GET, HEAD, OPTIONS",
    "/openapi.json": "GET, HEAD, OPTIONS",
    "/api/replay": "OPTIONS, POST",
    "/api/audit": "GET, HEAD, OPTIONS, POST",  # of two routes
}


@pytest.mark.parametrize("path", ALLOWED)
def test_other_methods_are_told_what_there_is(root: Path, path: str) -> None:
    with served(root) as client:
        asked = client.options(path, headers={"Origin": "https://elsewhere.example"})
        assert (asked.status_code, asked.headers["allow"], asked.content) == (204, ALLOWED[path], b"")
        assert not [name for name in asked.headers if name.startswith("access-control")], "no other site is let in"
        for method in ("PUT", "DELETE", "PATCH", "PROPFIND"):
            answer = client.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, ALLOWED[path])
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["detail"] == f"this path has {ALLOWED[path]}"
        if "HEAD" not in ALLOWED[path]:
            assert (client.head(path).status_code, client.get(path).status_code) == (405, 405)
        for method in ("OPTIONS", "PUT"):
            assert client.request(method, "/nowhere").status_code == 404
        counted = client.get("/metrics").text
        assert 'method="OPTIONS"' in counted
        assert "PROPFIND" not in counted


def test_a_connection_is_of_use_after_head(root: Path) -> None:
    """Of events, too, which go on for as long as somebody listens."""
    api = ApiProcess(root)
    api.start()
    try:
        with socket.create_connection(("127.0.0.1", api.port), 30) as client:
            for path in (LIVE, "/api/status", "/static/app.css"):
                client.sendall(f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
                heard = b""
                while not heard.endswith(b"\r\n\r\n"):
                    heard += client.recv(65536)
                assert heard.startswith(b"HTTP/1.1 200"), heard
                assert heard.count(b"\r\n\r\n") == 1
    finally:
        assert api.end() == 0
