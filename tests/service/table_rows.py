"""Batches of a table as the sink writes them, without Spark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import psycopg

from stream_app.flows.batch import planned
from stream_app.flows.flow import Flow
from stream_app.sinks.postgres import Upsert
from tests.helpers import commit, plan
from tests.service.servers import Database


def run(
    flow: Flow, database: Database, batch_id: int, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a planned batch."""
    with psycopg.connect(database.url) as connection:
        Upsert.of(flow, columns, planned(flow, batch_id)).run(connection, rows)


def write(
    flow: Flow,
    database: Database,
    batch_id: int,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    watermark_ms: int = 0,
) -> None:
    """Plan, write and commit a batch."""
    plan(flow, batch_id, {"batch": batch_id}, watermark_ms)
    run(flow, database, batch_id, columns, rows)
    commit(flow, batch_id)
