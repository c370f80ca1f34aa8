"""Sales as the service keeps them: silver, and the tables that the reports are made of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from stream_app.feeds.load import load_feeds
from stream_app.flows.flow import Flow
from stream_app.settings import PROJECT
from stream_app.sinks.registry import check, flows
from tests.helpers import write_layer
from tests.tables import append

Sale = tuple[str, str, str, int, int]
"""Product, country, amount, quantity, hour of 22 December 2025."""
SALES: Sequence[Sale] = [
    ("Souris", "France", "10.10", 1, 10),
    ("Souris", "Spain", "20.20", 2, 10),
    ("Clavier", "France", "75.00", 1, 11),
    ("Clavier", "France", "75.00", 1, 12),
]


def hour(number: int, minute: int = 0) -> datetime:
    return datetime(2025, 12, 22, number, minute, tzinfo=UTC)


def sold(root: Path, sales: Sequence[Sale] = SALES) -> dict[str, Flow]:
    """Write those sales under that OUTPUT_PATH, as the first batch of each flow; the flows by their names."""
    feed = load_feeds(PROJECT / "conf" / "feeds", ["sales"], check)[0]
    made = {flow.sink: flow for flow in flows([feed], root)}
    silver = [
        {"vente_id": n, "produit_nom": product, "pays": country, "montant": Decimal(amount), "quantite": quantity,
         "timestamp": hour(at, 30), "kafka_ts": hour(at, 30), "topic": "v", "partition": 0, "offset": n}
        for n, (product, country, amount, quantity, at) in enumerate(sales)
    ]  # fmt: skip
    write_layer(made["silver"], 0, silver)
    append(made["ventes_aggreges"], 0, _summed(("produit_nom", "pays"), silver))
    append(made["top_produits"], 0, _summed(("produit_nom",), silver))
    hours = [{**row, "timestamp": hour(sale[4])} for row, sale in zip(silver, sales, strict=True)]
    by_hour = _summed(("timestamp",), hours)
    for row in by_hour:
        start = row.pop("timestamp")
        row |= {"window_start": start, "window_end": start, "heure": start, "final": True}
    append(made["hourly_sales"], 0, by_hour)
    return made


def _summed(keys: tuple[str, ...], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[one] for one in keys)
        none = {"total_montant": Decimal(0), "total_quantite": 0, "nombre_ventes": 0}
        total = found.setdefault(key, {**dict(zip(keys, key, strict=True)), **none})
        total["total_montant"] += row["montant"]
        total["total_quantite"] += row["quantite"]
        total["nombre_ventes"] += 1
    return [*found.values()]
