"""What every request goes through: headers for browsers, a bound on bodies, counts and durations for Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from anyio import CancelScope
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream_app.api.clients import REQUEST_SECONDS
from stream_app.api.guard import is_of_this_machine
from stream_app.api.problems import methods_of, problem

_LARGEST_BODY = 64 << 10
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'{inline}; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_POLICY, _INLINE = "Content-Security-Policy", " 'unsafe-inline'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.005, 0.02, 0.05, 0.15, 0.5, 1, 2.5, 10)


class BrowserHeaders:
    """Tells browsers to run only our own scripts, in no frame."""

    def __init__(self, app: ASGIApp, inline_styles: str) -> None:
        """`inline_styles`: the one path whose styles may be in the page itself."""
        self._app = app
        self._inline_styles = inline_styles
        self._added = {inline: _raw(_HEADERS | {_POLICY: _CSP.format(inline=inline)}) for inline in ("", _INLINE)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to an answer, none of which has any of these."""
        added = self._added[_INLINE if scope.get("path") == self._inline_styles else ""]

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, sent)


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


class OwnHosts:
    """Refuses whoever asks for another host than this machine, whatever the path.

    So does a page of another site whose name leads here (DNS rebinding): it can choose no other host.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        answer: ASGIApp = self._app
        if scope["type"] == "http" and not is_of_this_machine(Headers(scope=scope).get("host", "")):
            answer = problem(HTTPStatus.MISDIRECTED_REQUEST, "only this machine is answered: ask for http://127.0.0.1")
        await answer(scope, receive, send)


class Methods:
    """Answers HEAD wherever there is GET, and OPTIONS wherever there is anything.

    No other site is allowed in: nothing is said of origins, so a browser that asks by OPTIONS first sends nothing more.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer HEAD as GET, OPTIONS by what there is, and pass on the rest."""
        method = scope.get("method")
        if method == "OPTIONS" and (allowed := methods_of(self._routes, scope)):
            answer = Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allowed})
            await answer(scope, receive, send)
        elif method == "HEAD":
            await self._begin(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _begin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer up to where the body would begin: events would have no end."""
        asked, is_over = {**scope, "method": "GET"}, False
        with CancelScope() as answering:

            async def sent(message: Message) -> None:
                nonlocal is_over
                if is_over:  # it is cancelled where it waits next
                    return
                scope["route"] = asked.get("route")
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                is_over = True
                answering.cancel()

            await self._app(asked, receive, sent)


class SmallBodies:
    """Refuses a request whose body is larger than any of ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body up to the bound, then have the request answered."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        messages, size = list[Message](), int(length) if length.isdigit() else _LARGEST_BODY + 1
        read, deadline = 0, asyncio.get_running_loop().time() + REQUEST_SECONDS
        while size <= _LARGEST_BODY:
            try:
                async with asyncio.timeout_at(deadline):
                    messages.append(await receive())
            except TimeoutError:
                late = f"the body did not come within {REQUEST_SECONDS:g} seconds"
                await problem(HTTPStatus.REQUEST_TIMEOUT, late, {"Connection": "close"})(scope, receive, send)
                return
            read += len(messages[-1].get("body", b""))
            size = max(size, read)
            if not messages[-1].get("more_body"):
                break
        if size > _LARGEST_BODY:
            answer = problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {_LARGEST_BODY} bytes")
            await answer(scope, receive, send)
            return

        async def replayed() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, replayed, send)


class Measures:
    """What /metrics of the API has."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "stream_app_api_requests_total", "Requests", ("method", "route", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "stream_app_api_seconds", "Until the answer began", ("route",), registry=self._registry, buckets=_BUCKETS
        )
        self._audits = Gauge(
            "stream_app_api_audit_wrong", "1 if the last audit by the API was wrong", ("feed",), registry=self._registry
        )

    def note_audit(self, feed: str, *, is_wrong: bool) -> None:
        """Note what the last audit of a feed has found."""
        self._audits.labels(feed).set(is_wrong)

    def text(self) -> bytes:
        """Return them for Prometheus."""
        return generate_latest(self._registry)


class Measured:
    """Counts each answer by its route, not its path, of which there are too many."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Measure an answer."""
        began = time.perf_counter()

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in _METHODS else "other"  # any word is one to HTTP
                self._measures.requests.labels(method, route, message["status"]).inc()
                self._measures.seconds.labels(route).observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, sent)
