"""The rows of silver that came after their window or session was final, with the newest of each dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from stream_app.feeds.sql import name
from stream_app.flows.flow import Flow
from stream_app.ops.views import select_late, steadily
from stream_app.storage.opened import Opened

_SAMPLES = 5


@dataclass(frozen=True)
class LateReport:
    """The late rows of one dataset."""

    feed: str
    dataset: str
    noun: str
    """What they came too late for: a window or a session."""
    rows: int
    """A row that missed several windows counts for each."""
    samples: tuple[Mapping[str, Any], ...]
    """The newest of them by Kafka's timestamp: the window that was missed, and silver's columns."""


def late(connection: duckdb.DuckDBPyConnection, flows: Sequence[Flow]) -> tuple[LateReport, ...]:
    """Return what came too late for each dataset that has windows or sessions. They are in no window, but in silver."""
    return tuple(_report(connection, flow) for flow in flows if flow.is_own and flow.stateful)


def _report(connection: duckdb.DuckDBPyConnection, flow: Flow) -> LateReport:
    stateful = flow.stateful
    assert stateful  # noqa: S101 - asked for

    def report(opened: Opened) -> LateReport:
        held = f"({select_late(flow, opened)})"
        ((count,),) = connection.execute(f"SELECT count(*) FROM {held}").fetchall()
        key = "".join(f", {name(column)} DESC" for column in stateful.late_key)
        order = f'kafka_ts DESC, partition, "offset" DESC{key}'
        found = connection.sql(f"SELECT * FROM {held} ORDER BY {order} LIMIT {_SAMPLES}")
        samples = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
        return LateReport(flow.feed.name, flow.sink, stateful.noun, count, tuple(samples))

    return steadily(flow, report)
