"""Files as the service writes them, made without it: records, layers and checkpoints."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.admission import ownership, rule_versions
from stream_app.admission.verdict import Verdict, apply
from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.ops.audit import Report, reconcile
from stream_app.settings import Settings, load_settings
from stream_app.sinks.registry import flows
from stream_app.storage.batch_files import BatchFile, batch_file
from stream_app.storage.offsets import LayerOffset

START = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
# A name that an OUTPUT_PATH may have. Spark, Hadoop, Arrow and DuckDB each take some of its signs for their own.
UNUSUAL = "my out+put: 100%, ü's"

_VALUES = {
    "user_id": "user-1",
    "merchant": "Kiosk",
    "category": "food",
    "currency": "EUR",
    "status": "approved",
    "city": "Jena",
    "country": "DE",
    "lat": 50.9,
    "lon": 11.6,
}

Row = dict[str, Any]


def flow_of(feed: Feed, sink: str, root: Path) -> Flow:
    """The flow of a dataset or a sink of the feed."""
    return next(flow for flow in flows([feed], root) if flow.sink == sink)


def at(seconds: float) -> datetime:
    """A time that many seconds after START."""
    return START + timedelta(seconds=seconds)


def value(number: int, seconds: float = 0, **fields: Any) -> bytes:
    """The JSON of valid transaction `number`, with those fields instead."""
    keys = {"txn_id": f"t{number}", "event_ts": at(seconds).isoformat(), "card_id": f"card-{number % 3}"}
    return json.dumps({**_VALUES, **keys, "amount": 12.5, **fields}).encode()


def bronze_row(offset: int, record: bytes | None, seconds: float = 0, partition: int = 0) -> Row:
    """A record as bronze holds it, with Kafka's time `seconds` after START."""
    place = {"topic": "transactions", "partition": partition, "offset": offset}
    return {"key": f"k{offset}", "value": record, "headers": None, "kafka_ts": at(seconds), **place}


def silver_row(number: int, seconds: float = 0, **fields: Any) -> Row:
    """Valid transaction `number` as silver holds it, with those columns instead."""
    keys = {"txn_id": f"t{number}", "event_time": at(seconds), "card_id": f"card-{number % 3}"}
    place = {"kafka_ts": at(seconds), "topic": "transactions", "partition": 0, "offset": number}
    return {**_VALUES, **keys, "amount": Decimal("12.50"), **place, **fields}


def write_layer(
    flow: Flow, batch: int, rows: Sequence[Row], last: int | None = None, row_group: int | None = None
) -> BatchFile:
    """A Parquet file of a flow's output, for a micro-batch or the batches `batch` to `last`.

    A query that runs sees all of it or nothing.
    """
    of_topic = {"bronze": schema.BRONZE, "quarantine": schema.QUARANTINE}
    arrow = to_arrow_schema(of_topic.get(flow.sink) or schema.silver(flow.feed), timezone="UTC")
    file = batch_file(flow.layout.output, flow.sink, "parquet", START_MS + batch * 1000, batch, last)
    flow.layout.output.mkdir(parents=True, exist_ok=True)
    partial = file.path.with_name(f".{file.path.name}")
    pq.write_table(pa.Table.from_pylist(list(rows), arrow), partial, row_group_size=row_group)
    partial.replace(file.path)
    return file


def write_planned(flow: Flow, batch: int, rows: Sequence[Row], last: int | None = None) -> BatchFile:
    """Such a file, with the plan that its newest batch came from: whoever follows it may not be ahead of that."""
    plan(flow, batch if last is None else last, LayerOffset().as_json())
    return write_layer(flow, batch, rows, last)


def write_file(flow: Flow, batch: int, last: int | None = None) -> Path:
    """An output file with the right name, of one row that is nobody's."""
    file = batch_file(
        flow.layout.output,
        flow.sink,
        flow.extension or "parquet",
        START_MS + batch * 1000,
        batch,
        last,
    )
    flow.layout.output.mkdir(parents=True, exist_ok=True)
    if flow.extension == "csv":
        file.path.write_text("n\r\n1\r\n")
    else:
        pq.write_table(pa.table({"n": [1]}), file.path)
    return file.path


def plan(flow: Flow, batch: int, end: Mapping[str, Any], watermark_ms: int = 0, time_ms: int | None = None) -> None:
    """Write the batch to the checkpoint's offset log, as Spark does before it runs."""
    planned_ms = START_MS + batch * 1000 if time_ms is None else time_ms
    metadata = {"batchWatermarkMs": watermark_ms, "batchTimestampMs": planned_ms, "conf": {}}
    _log(flow, "offsets", batch).write_text(f"v1\n{json.dumps(metadata)}\n{json.dumps(end)}")


def commit(flow: Flow, batch: int, watermark_ms: int = 0) -> None:
    """Write the batch to the checkpoint's commit log, as Spark does after it ran; the watermark is the next batch's."""
    _log(flow, "commits", batch).write_text(f'v1\n{{"nextBatchWatermarkMs":{watermark_ms}}}')


def _log(flow: Flow, name: str, batch: int) -> Path:
    folder = flow.checkpoint.path / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder / str(batch)


def app_settings(root: Path, **overrides: Any) -> Settings:
    """Settings for that OUTPUT_PATH, whatever .env says."""
    return load_settings(_env_file=None, output_path=root, **overrides)


def reconciled(bronze: Flow, **settings: Any) -> Report:
    """The audit of a feed, as a command on that OUTPUT_PATH makes it."""
    own = app_settings(bronze.root, **settings)
    return reconcile(bronze, own.servers, own.max_files_per_sink)


def claim(flow: Flow, topic_id: str | None = None) -> None:
    """Bind a flow to its output, or check one that has run, as the service does at a start; ConfigError as there."""
    upstream_id = flow.upstream.checkpoint.query_id() if flow.upstream else None
    apply(Verdict.of(ownership.inspect(flow, topic_id, upstream_id)))
    apply(Verdict.of(ownership.inspect_upstream(flow, upstream_id)))


def agree(bronze: Flow) -> None:
    """Note the rules of a feed for silver and quarantine, as the service does at a start; ConfigError as there."""
    apply(Verdict.of(rule_versions.inspect(bronze)))


def tree(root: Path) -> dict[str, bytes]:
    """Every file under a folder with its content, to show that nothing was changed."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


class Deadline:
    """Seconds of a machine that has time for us: on one with four busy programs a core each counts a quarter.

    A deadline is there to notice what hangs. It does not measure speed.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._last = time.monotonic()

    def has_passed(self) -> bool:
        now = time.monotonic()
        self._left -= (now - self._last) / max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        self._last = now
        return self._left < 0


def wait_until(
    condition: Callable[[], object], seconds: float = 20, what: str = "a condition", pause: float = 0.01
) -> None:
    """Return once the condition holds; fail after the deadline, naming what was waited for.

    The pause is longer after a costly question: it would keep the cores from what is waited for.
    """
    deadline, asked = Deadline(seconds), time.monotonic()
    while not condition():
        assert not deadline.has_passed(), f"waited {seconds:.0f} s in vain for: {what}"
        time.sleep(max(pause, min(1.0, 3 * (time.monotonic() - asked))))
        asked = time.monotonic()
