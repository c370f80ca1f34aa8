"""What the clients of the sales system ask: sales by product and country, the best products, sales by hour.

Answers come from the tables of the feed `sales` where these hold them, else from silver. Silver answers for totals
within a span of time, for the hours of a country, and for parts of an hour. A span is of the sales' own times.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from stream_app.contract.times import EPOCH
from stream_app.flows.flow import Flow
from stream_app.ops.views import select, steadily
from stream_app.sinks.protocol import sink_of
from stream_app.storage.opened import Opened

FEED = "sales"
SILVER, BY_COUNTRY, TOP, BY_HOUR = "silver", "ventes_aggreges", "top_produits", "hourly_sales"
_SUMS = "sum(montant) AS total_montant, CAST(sum(quantite) AS BIGINT) AS total_quantite"


@dataclass(frozen=True)
class SalesAsked:
    """Which sales; empty texts mean all."""

    since: str = ""
    until: str = ""
    """The bounds in ISO 8601, in UTC without an offset, the first inclusive, the second exclusive."""
    pays: str = ""
    limit: int = 100

    @property
    def has_span(self) -> bool:
        """Whether a span of time is asked for."""
        return bool(self.since or self.until)

    @property
    def is_of_hours(self) -> bool:
        """Whether the span begins and ends with an hour of UTC, so that it has each hour as a whole or not at all."""
        return _is_whole_hour(self.since) and _is_whole_hour(self.until)


@dataclass(frozen=True)
class SalesQuery:
    """Which output of the feed holds an answer, and the SQL over its `{rows}`, with `{where}` for the conditions."""

    source: str
    sql: str
    time: str = ""
    """The column of the time, where a span may be asked for."""

    def run(self, connection: duckdb.DuckDBPyConnection, flow: Flow, asked: SalesAsked) -> list[dict[str, Any]]:
        """Return the rows. Raises duckdb.Error for bounds that are no time."""
        conditions = {
            f"{self.time} >= CAST(? AS TIMESTAMPTZ)": asked.since,
            f"{self.time} < CAST(? AS TIMESTAMPTZ)": asked.until,
            "pays = ?": asked.pays,
        }
        sink_of(flow).attach(connection, flow)
        given = {condition: value for condition, value in conditions.items() if value}

        def rows(opened: Opened) -> list[dict[str, Any]]:
            sql = self.sql.format(rows=f"({select(flow, opened)})", where=" AND ".join(["true", *given]))
            found = connection.execute(f"{sql} LIMIT {asked.limit}", [*given.values()])
            columns = [column for column, *_ in found.description]
            return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]

        return steadily(flow, rows)


def by_product_and_country(asked: SalesAsked) -> SalesQuery:
    """Return what asks for produit_nom, pays, total_montant and total_quantite, the greatest amount first."""
    order = "ORDER BY total_montant DESC, produit_nom, pays"
    if asked.has_span:
        sql = f"SELECT produit_nom, pays, {_SUMS} FROM {{rows}} WHERE {{where}} GROUP BY produit_nom, pays {order}"
        return SalesQuery(SILVER, sql, "timestamp")
    quantity = "CAST(total_quantite AS BIGINT) AS total_quantite"
    return SalesQuery(
        BY_COUNTRY, f"SELECT produit_nom, pays, total_montant, {quantity} FROM {{rows}} WHERE {{where}} {order}"
    )


def best_products(asked: SalesAsked) -> SalesQuery:
    """Return what asks for produit_nom and total_montant, the best product first."""
    order = "ORDER BY total_montant DESC, produit_nom"
    if asked.has_span:
        sums = "SELECT produit_nom, sum(montant) AS total_montant"
        sql = f"{sums} FROM {{rows}} WHERE {{where}} GROUP BY produit_nom {order}"
        return SalesQuery(SILVER, sql, "timestamp")
    if asked.pays:
        return SalesQuery(BY_COUNTRY, f"SELECT produit_nom, total_montant FROM {{rows}} WHERE {{where}} {order}")
    return SalesQuery(TOP, f"SELECT produit_nom, total_montant FROM {{rows}} {order}")


def by_hour(asked: SalesAsked) -> SalesQuery:
    """Return what asks for heure, total_montant and total_quantite, the newest first.

    heure is a text in UTC, as "2025-12-22 10:00:00".
    """
    shown = "strftime(timezone('UTC', {}), '%Y-%m-%d %H:%M:%S') AS heure"
    if asked.pays or not asked.is_of_hours:
        hour = shown.format("date_trunc('hour', timestamp)")
        sql = f"SELECT {hour}, {_SUMS} FROM {{rows}} WHERE {{where}} GROUP BY ALL ORDER BY heure DESC"
        return SalesQuery(SILVER, sql, "timestamp")
    quantity = "CAST(total_quantite AS BIGINT) AS total_quantite"
    sql = f"SELECT {shown.format('t.heure')}, total_montant, {quantity} FROM {{rows}} t WHERE {{where}} ORDER BY 1 DESC"
    return SalesQuery(BY_HOUR, sql, "t.heure")


def _is_whole_hour(bound: str) -> bool:
    """Return whether a bound is the start of an hour, or none at all."""
    try:
        time = datetime.fromisoformat(bound)
    except ValueError:  # the query says so of what is no time
        return not bound
    since_epoch = (time if time.tzinfo else time.replace(tzinfo=UTC)) - EPOCH
    return not since_epoch % timedelta(hours=1)
