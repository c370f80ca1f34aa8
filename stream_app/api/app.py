"""The application: its operations, and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import FileResponse, JSONResponse, Response

from stream_app.api import actions, feeds, pipeline, problems, sales
from stream_app.api.ahead import Ahead
from stream_app.api.audits import Audits
from stream_app.api.clients import TakenBit
from stream_app.api.context import Context
from stream_app.api.middleware import BrowserHeaders, Measured, Measures, Methods, OwnHosts, SmallBodies
from stream_app.api.settings import ApiSettings
from stream_app.api.watch import Watcher
from stream_app.settings import Settings

_PAGE = Path(__file__).parent / "page"
_DOCS = "/docs"
_ABOUT = """
Outputs, state and operations of a Kafka medallion service. Errors are application/problem+json. Answers have an ETag.
With API_JWT_SECRET or API_JWKS_URL each request needs a bearer token with the scope read, or operate.
"""


def application(settings: Settings, own: ApiSettings) -> FastAPI:
    """Return the API over the outputs of those settings, and the page at /. Raises ConfigError for their feed files."""
    context = Context(settings, own)
    context.flows()
    measures = Measures()
    watcher = Watcher(context)
    audits = Audits(settings, lambda feed, is_wrong: measures.note_audit(feed, is_wrong=is_wrong))

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        async with watcher.watching():
            yield
        audits.end()

    app = FastAPI(
        title="Kafka medallion",
        version="1",
        description=_ABOUT,
        lifespan=living,
        docs_url=None,
        redoc_url=None,
        responses=problems.RESPONSES,
    )
    problems.install(app)
    for router in (
        feeds.routes(context),
        sales.routes(context),
        pipeline.routes(context, watcher),
        actions.routes(context, audits),
        actions.reading(context, audits),
    ):
        _summarize(router)
        app.include_router(router)
    _serve_pages(app, measures, has_tokens=own.has_tokens)
    app.add_middleware(Ahead, context=context)
    app.add_middleware(TakenBit)
    app.add_middleware(Methods, routes=app.routes)
    if not own.has_tokens:
        app.add_middleware(OwnHosts)
    app.add_middleware(Measured, measures=measures)
    app.add_middleware(SmallBodies)
    app.add_middleware(BrowserHeaders, inline_styles=_DOCS)
    return app


def _summarize(router: APIRouter) -> None:
    """Have each operation listed by the first sentence of what it says of itself, rather than by a function's name."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            first, _, route.description = route.description.partition(".")
            route.summary = first.replace("\n", " ")


def _serve_pages(app: FastAPI, measures: Measures, *, has_tokens: bool) -> None:
    """Serve what is for everyone: the page, which asks for a token where one is needed, and what it consists of."""

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(_PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get(_DOCS, include_in_schema=False)
    def docs() -> Response:
        return FileResponse(_PAGE / "docs.html", headers={"Cache-Control": "no-cache"})

    @app.get("/healthz", include_in_schema=False)
    def health() -> Response:
        return JSONResponse({"ok": True, "needs_token": has_tokens})

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(measures.text(), media_type=CONTENT_TYPE_LATEST)

    app.mount("/static", StaticFiles(directory=_PAGE))
