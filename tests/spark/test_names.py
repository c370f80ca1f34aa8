"""A feed whose every name is a word of SQL, of Spark or of our own, through each query that Spark runs."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.feeds.sql import view
from stream_app.flows.flow import Flow
from stream_app.ops import views
from stream_app.sinks.registry import flows
from tests.helpers import at, bronze_row, commit, plan, write_layer
from tests.hostile import FEED, record
from tests.spark.conftest import Service


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    (tmp_path / "order.toml").write_text(FEED)
    return load_feeds(tmp_path, ["order"])[0]


RECORDS = [
    [record(0, 1), record(1, 2, **{"a.b": "bye", "select": 4}), record(1, 2), record(2, 600, **{"[/x]": 7})],
    [record(3, 900)],
    [record(4, 901)],  # from here on it is too late for all before
    [record(5, 5)],
]


@pytest.fixture
def drained(service: Service) -> dict[str, Flow]:
    """All that the feed makes of the records, a batch for each list of them."""
    (service.root / "order").mkdir(parents=True)
    bronze, offset = service.flows["bronze"], 0
    for batch, records in enumerate(RECORDS):
        rows = [bronze_row(offset + i, one) for i, one in enumerate(records)]
        write_layer(bronze, batch, rows)
        offset += len(rows)
        plan(bronze, batch, {"order": {"0": offset}})
        commit(bronze, batch)
    found = {flow.sink: flow for flow in flows([bronze.feed], service.root)}
    for sink, flow in found.items():
        if sink != "bronze":
            service.flows[flow.sink] = flow
            service.drain(flow.sink, max_offsets_per_trigger=1)
    return found


@pytest.mark.faults
def test_every_output_has_its_rows(drained: dict[str, Flow]) -> None:
    database = views.connect(list(drained.values()))

    def rows(sink: str, columns: str = "*") -> list[tuple[Any, ...]]:
        return database.sql(f"SELECT {columns} FROM {view('order', sink)} ORDER BY ALL").fetchall()

    minute, half = (at(0), at(60)), (at(-30), at(30))
    assert rows("quarantine", "reasons") == [(["bad_type:[/x]"],)]
    assert rows("silver", '"user", "end"') == [
        ("u0", at(1)),
        ("u1", at(2)),
        ("u3", at(900)),
        ("u4", at(901)),
        ("u5", at(5)),
    ]
    assert rows("raw_csv", '"user"') == [(f"u{n}",) for n in (0, 1, 3, 4, 5)]
    assert len(rows("table")) == 5
    (bye, other) = rows("from", '"window", "end", start, "group", "order", key')
    assert (bye, other) == (("bye", 1, 4, Decimal("1.5"), 0.5, 1), ("w", 1, 3, Decimal("1.5"), 0.5, 1))
    assert rows("window") == [(*half, 2, 3, 3), (*minute, 2, 3, 3)]
    assert rows("gold") == [(*minute, "s", 2, 2)]
    assert rows("user") == [("s", "s", "s", "s", "k", at(1), at(2), 1.0, 2, "ended")]
    assert rows("late", 'window_start, "user"') == [(at(0), "u5")]
    assert rows("late_from", 'window_start, "user"') == [(at(0), "u5")]
    assert rows("late_window", 'window_start, "user"') == [(at(-30), "u5"), (at(0), "u5")]
    assert rows("late_user", '"user"') == [("u5",)]
