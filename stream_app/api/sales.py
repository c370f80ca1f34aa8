"""The three reports of the sales system's clients, over the feed `sales`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import duckdb
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from stream_app.api.answers import JSON, cached
from stream_app.api.cache import Answer
from stream_app.api.context import Context
from stream_app.api.formats import Numbers, encode
from stream_app.api.problems import known_only
from stream_app.api.versions import Source
from stream_app.ops import sales
from stream_app.ops.sales import SalesAsked, SalesQuery
from stream_app.ops.selection import A_TIME, SelectionError

_MOST_ROWS = 10_000
From = Annotated[str, Query(alias="from", max_length=64, description="the earliest time, inclusive; UTC")]
To = Annotated[str, Query(alias="to", max_length=64, description="the latest time, exclusive; UTC")]
Pays = Annotated[str, Query(max_length=256, description="only this country")]
Limit = Annotated[int, Query(ge=1, le=_MOST_ROWS, description="the most rows")]
AsNumbers = Annotated[Numbers, Query(description="how money is written")]


def routes(context: Context) -> APIRouter:
    """Return the operations. They answer 404 where the feed sales is not in FEEDS."""
    router = APIRouter(prefix="/api", tags=["sales"], dependencies=[context.guard.needs("read"), Depends(known_only)])

    @router.get("/aggregated_sales")
    def aggregated_sales(
        request: Request, since: From = "", until: To = "", pays: Pays = "", limit: Limit = 100,
        numbers: AsNumbers = "string",
    ) -> Response:  # fmt: skip
        """List sales by product and country, the greatest amount first."""
        return _answer(request, sales.by_product_and_country, SalesAsked(since, until, pays, limit), numbers)

    @router.get("/top_products")
    def top_products(
        request: Request, since: From = "", until: To = "", pays: Pays = "", limit: Limit = 10,
        numbers: AsNumbers = "string",
    ) -> Response:  # fmt: skip
        """List the best products, the best first. Without a span and a country there are ten."""
        return _answer(request, sales.best_products, SalesAsked(since, until, pays, limit), numbers)

    @router.get("/hourly_sales")
    def hourly_sales(
        request: Request, since: From = "", until: To = "", pays: Pays = "", limit: Limit = 24,
        numbers: AsNumbers = "string",
    ) -> Response:  # fmt: skip
        """List sales by hour, the newest first. The running hour is there, too."""
        return _answer(request, sales.by_hour, SalesAsked(since, until, pays, limit), numbers)

    def _answer(
        request: Request, report: Callable[[SalesAsked], SalesQuery], asked: SalesAsked, numbers: Numbers
    ) -> Response:
        query = report(asked)
        flow = context.dataset(sales.FEED, query.source)

        def make() -> Answer:
            try:
                with context.engine.cursor() as connection:
                    return Answer(encode(query.run(connection, flow, asked), numbers), JSON, {})
            except duckdb.ConversionException:
                raise SelectionError(f"from, to: {asked.since!r}, {asked.until!r}: one is no {A_TIME}") from None

        return cached(request, context, [Source(flow)], JSON, make)

    return router
