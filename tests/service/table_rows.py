"""Batches of a table as the sink writes them, without Spark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import psycopg
import pyarrow as pa
from pyspark.sql.types import LongType, StringType, StructType, TimestampType

from stream_app.flows.batch import planned
from stream_app.flows.flow import Flow
from stream_app.settings import Settings
from stream_app.sinks.postgres import PostgresSink
from stream_app.sinks.postgres_batch import Work
from stream_app.sinks.protocol import Tools
from stream_app.storage.filesystem import Hadoop
from tests.helpers import commit, plan
from tests.service.servers import Database

WINDOWS = (
    StructType()
    .add("window_start", TimestampType())
    .add("window_end", TimestampType())
    .add("page_url", StringType())
    .add("page_views", LongType())
)
"""The columns of page_view_counts."""


def run(
    flow: Flow, database: Database, batch_id: int, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write a planned batch."""
    values = zip(*rows, strict=True)
    arrays = [pa.array(list(column)) for column in values] or [pa.array([], pa.string()) for _ in columns]
    batch = pa.RecordBatch.from_arrays(arrays, list(columns))
    with psycopg.connect(database.url) as connection:
        declared = table_of(flow)
        changes = declared.changes(flow.kind, columns)
        Work.of(flow, declared.table, changes, planned(flow, batch_id)).run(connection, iter([batch]))


def prepare(flow: Flow, settings: Settings, columns: StructType) -> None:
    """Do what a start does before the first batch."""
    table_of(flow).writer(flow, None, Tools(cast(Hadoop, None), settings.servers, fail_on_data_loss=True)).prepare(
        columns
    )


def table_of(flow: Flow) -> PostgresSink:
    return PostgresSink.model_validate(flow.to)


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
