"""Who is let in: this machine alone without tokens, else who has one with the scope; and what answers tell browsers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from stream_app import logs
from stream_app.api import serve
from stream_app.api.settings import load_api_settings
from stream_app.errors import ConfigError
from tests.unit.served import filled, own, served

SECRET = "a secret of more than thirty-two bytes"
CLAIMS = {"iss": "stream-app", "aud": "stream-app", "sub": "ann"}
REPLAY = {"feed": "transactions"}


def token(key: Any = None, header: dict[str, Any] | None = None, **claims: Any) -> dict[str, str]:
    """The header of a request with a token of those claims."""
    held = {**CLAIMS, "exp": int(time.time()) + 60, "scope": "read", **claims}
    signed = jwt.encode(
        header or {"alg": "HS256"},
        {name: one for name, one in held.items() if one is not None},
        key or OctKey.import_key(SECRET),
        algorithms=["HS256", "HS512", "RS256", "ES256", "EdDSA", "Ed25519"],
    )
    return {"Authorization": f"Bearer {signed}"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("guarded")
    filled(root)
    return root


@pytest.fixture(scope="module")
def closed(root: Path) -> Iterator[TestClient]:
    with served(root, api_jwt_secret=SECRET, api_host="0.0.0.0") as client:  # noqa: S104
        yield client


@pytest.fixture(scope="module")
def opened(root: Path) -> Iterator[TestClient]:
    with served(root) as client:
        yield client


def test_without_a_token_nothing_but_the_page_is_given(closed: TestClient) -> None:
    paths = closed.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        for method in operations:
            answer = closed.request(method, path.replace("{", "").replace("}", ""), json={"feed": "transactions"})
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"
    assert closed.get("/").status_code == closed.get("/docs").status_code == 200
    assert closed.get("/healthz").json() == {"ok": True, "needs_token": True}


def test_a_scope_lets_in_where_it_is_needed(closed: TestClient) -> None:
    assert closed.get("/api/status", headers=token()).status_code == 200
    assert closed.get("/api/status", headers=token(scope="operate")).status_code == 200
    assert closed.get("/api/status", headers=token(scope=None, scp=["read"])).status_code == 200
    for other in ("other", "", 5, {"read": 1}, ["other"], True):
        assert closed.get("/api/status", headers=token(scope=other)).status_code == 403
    assert closed.post("/api/replay/preview", headers=token(), json=REPLAY).status_code == 403
    assert closed.post("/api/replay/preview", headers=token(scope="read operate"), json=REPLAY).status_code == 200


NOW = int(time.time())
"""When the tests were collected: the last one of a run may come an hour later, or more."""


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "other"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"exp": NOW - 3600},
        {"exp": None},
        {"nbf": NOW + 30 * 86_400},
        {"key": OctKey.import_key("another secret of thirty-two bytes or more")},
        {"header": {"alg": "HS512"}},
    ],
)
def test_a_token_that_is_not_right_in_all_is_refused(closed: TestClient, claims: dict[str, Any]) -> None:
    assert closed.get("/api/status", headers=token(**claims)).status_code == 401


@pytest.mark.parametrize("sent", ["x", "eyJhbGciOiJub25lIn0.eyJzY29wZSI6InJlYWQifQ.", "a.b.c", "é", "x" * 10_000])
def test_what_is_no_token_is_refused(closed: TestClient, sent: str) -> None:
    answer = closed.get("/api/status", headers=[(b"Authorization", f"Bearer {sent}".encode())])
    assert answer.status_code == 401


class _Keys:
    """A server of public keys, which may change and go away."""

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                body = json.dumps({"keys": [key.as_dict(private=False) for key in outer.keys]}).encode()
                self.send_response(200 if outer.keys else 500)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def keys() -> Iterator[_Keys]:
    keys = _Keys()
    yield keys
    keys.end()


def test_public_keys_are_fetched_and_fetched_again_when_they_change(
    root: Path, keys: _Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    rsa, ec = (
        RSAKey.generate_key(2048, {"kid": "one"}, private=True),
        ECKey.generate_key("P-256", {"kid": "two"}, private=True),
    )
    with served(root, api_jwks_url=keys.url) as client:
        by_rsa = token(rsa, {"alg": "RS256", "kid": "one"})
        assert client.get("/api/status", headers=by_rsa).status_code == 503, "no keys are to be had"
        keys.keys = [rsa]
        monkeypatch.setattr("stream_app.api.guard._FETCH_AGAIN_SECONDS", 0)
        assert client.get("/api/status", headers=by_rsa).status_code == 200
        asked = keys.asked
        assert client.get("/api/status", headers=by_rsa).status_code == 200
        assert keys.asked == asked, "they are kept"
        keys.keys = [rsa, ec]
        assert client.get("/api/status", headers=token(ec, {"alg": "ES256", "kid": "two"})).status_code == 200
        monkeypatch.setattr("stream_app.api.guard._FETCH_AGAIN_SECONDS", 60)
        asked = keys.asked
        stranger = RSAKey.generate_key(2048, {"kid": "three"}, private=True)
        for _ in range(3):
            assert (
                client.get("/api/status", headers=token(stranger, {"alg": "RS256", "kid": "three"})).status_code == 401
            )
        assert keys.asked == asked, "not with every forged token"
        assert client.get("/api/status", headers=token(header={"alg": "HS256", "kid": "one"})).status_code == 401


_MADE: dict[str, Callable[[str], Any]] = {
    "RS256": lambda kid: RSAKey.generate_key(2048, {"kid": kid}, private=True),
    "ES256": lambda kid: ECKey.generate_key("P-256", {"kid": kid}, private=True),
    "EdDSA": lambda kid: OKPKey.generate_key("Ed25519", {"kid": kid}, private=True),
    "Ed25519": lambda kid: OKPKey.generate_key("Ed25519", {"kid": kid}, private=True),
}


@pytest.mark.parametrize("algorithm", _MADE)
def test_a_public_key_of_each_algorithm_lets_in_and_the_log_has_no_warning(
    root: Path, keys: _Keys, algorithm: str, recwarn: pytest.WarningsRecorder
) -> None:
    header = {"alg": algorithm, "kid": "one"}
    key, forged = (_MADE[algorithm]("one") for _ in range(2))
    keys.keys = [key]
    with served(root, api_jwks_url=keys.url) as client:
        assert client.get("/api/status", headers=token(key, header)).status_code == 200
        assert client.get("/api/status", headers=token(forged, header)).status_code == 401
        assert client.get("/api/status", headers=token(header={"alg": "HS256", "kid": "one"})).status_code == 401
    assert not [str(one.message) for one in recwarn if issubclass(one.category, SecurityWarning)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_host": "0.0.0.0"}, 'API_HOST: "0.0.0.0" lets others in without a token'),  # noqa: S104
        ({"api_host": "example.org"}, "API_HOST: "),
        ({"api_jwt_secret": "short"}, "API_JWT_SECRET: is shorter than 32 bytes"),
        ({"api_jwks_url": "http://example.org/jwks"}, 'API_JWKS_URL: "http://example.org/jwks" is no https URL'),
        ({"api_jwt_secret": SECRET, "api_jwks_url": "https://example.org"}, "API_JWT_SECRET: is set and so is"),
        ({"redis_url": "http://user:hidden@x"}, "REDIS_URL: is no URL such as redis://"),
        ({"api_port": 70000}, "API_PORT: "),
    ],
)
def test_a_setting_that_would_let_others_in_or_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_api_settings(_env_file=None, **settings)
    assert said in str(error.value)
    assert not any(hidden in str(error.value) for hidden in ("short\n", "hidden", SECRET))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert not own(api_host=host).has_tokens


def test_a_page_of_another_site_can_do_nothing_on_this_machine(opened: TestClient) -> None:
    """By DNS rebinding, by a form, by a script of its own."""
    assert opened.get("/api/status", headers={"Host": "evil.example"}).status_code == 421
    form = {"Content-Type": "text/plain"}
    sent = json.dumps({"feed": "transactions"})
    assert opened.post("/api/replay/preview", content=sent, headers=form).status_code == 415
    other = {"Origin": "https://evil.example"}
    assert opened.post("/api/replay/preview", headers=other, json=REPLAY).status_code == 403
    same = {"Origin": "http://127.0.0.1:5000"}
    assert opened.post("/api/replay/preview", headers=same, json=REPLAY).status_code == 200
    assert "access-control-allow-origin" not in opened.get("/api/status", headers=other).headers


@pytest.mark.parametrize(
    "host", ["x@127.0.0.1", "127.0.0.1#x", "evil:80:80", "", "127.0.0.1.evil.example", "\xff", "[::1"]
)
def test_a_host_that_cannot_be_read_is_not_this_machine(opened: TestClient, host: str) -> None:
    """The framework takes the address of the connection for it, which is this machine's."""
    assert opened.get("/api/status", headers=[(b"Host", host.encode("latin-1"))]).status_code == 421
    assert opened.get("/api/status", headers={"Host": "[::1]:5000"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/static/main.js", "/healthz", "/metrics", "/openapi.json", "/nowhere"])
def test_without_tokens_no_path_answers_another_host(opened: TestClient, closed: TestClient, path: str) -> None:
    """A page of another site whose name leads to this machine would read it."""
    other = {"Host": "evil.example"}
    for method in ("GET", "HEAD", "OPTIONS"):
        answer = opened.request(method, path, headers=other)
        assert answer.status_code == 421
        assert answer.headers["content-type"] == "application/problem+json"
    assert opened.get(path, headers={"Host": "localhost:9"}).status_code == opened.get(path).status_code
    assert closed.get(path, headers=other).status_code == opened.get(path).status_code, "with them others may ask"


def test_the_description_asks_for_a_token_where_the_api_does(opened: TestClient, closed: TestClient) -> None:
    for client, is_asked in ((opened, False), (closed, True)):
        told = client.get("/openapi.json").json()
        assert ("security" in told["paths"]["/api/status"]["get"]) == is_asked
        assert ("securitySchemes" in told.get("components", {})) == is_asked


def test_browsers_run_only_our_scripts_in_no_frame(opened: TestClient) -> None:
    for path in ("/", "/docs", "/api/status", "/api/nowhere"):
        headers = opened.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")


def test_a_body_larger_than_any_of_ours_is_refused(opened: TestClient) -> None:
    large = {"feed": "transactions", "reason": "x" * 70_000}
    assert opened.post("/api/replay/preview", json=large).status_code == 413
    streamed = iter([b"x" * 40_000, b"x" * 40_000])
    sent = opened.post("/api/replay/preview", content=streamed, headers={"Content-Type": "application/json"})
    assert sent.status_code == 413


def test_requests_are_counted_by_route(opened: TestClient) -> None:
    opened.get("/api/feeds/transactions/silver")
    for word in ("A", "B", "C"):
        assert opened.request(word, "/api/status").status_code == 405
    text = opened.get("/metrics").text
    assert text.count('stream_app_api_requests_total{method="other"') == 1, "any word is a method to HTTP"
    assert 'route="/api/feeds/{feed}/{dataset}",status="200"' in text
    assert "/silver" not in text


def test_the_log_names_the_port_that_the_system_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, object] = {}
    monkeypatch.setattr(logs, "info", lambda _message, **fields: told.update(fields))
    settings = load_api_settings(api_port=0)
    with serve._listener(settings) as listener:
        serve._tell_where(settings, listener)
        assert told["url"] == f"http://127.0.0.1:{listener.getsockname()[1]}/"
