"""The boards of Grafana, and what they ask of whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stream_app.settings import PROJECT

FOLDER = PROJECT / "deploy" / "grafana"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))
}
PROMETHEUS, POSTGRES = "prometheus", "grafana-postgresql-datasource"


@dataclass(frozen=True)
class Question:
    """What a panel asks a datasource."""

    panel: str
    text: str


def questions(board: str, kind: str) -> Iterator[Question]:
    """Yield all that a board asks datasources of that kind, as Grafana sends it: of every feed, and of all times."""
    for panel in BOARDS[board]["panels"]:
        for target in panel["targets"]:
            if target["datasource"]["type"] == kind:
                text = target["expr"] if kind == PROMETHEUS else target["rawSql"]
                text = (
                    text.replace("$__rate_interval", "1m")
                    .replace("$feed", ".*")
                    .replace("$__timeFilter(heure)", "true")
                )
                assert "$" not in text, text
                yield Question(panel["title"], text)
