"""The rows of a batch, written where they are: each task makes part files of its own, with pyarrow.

Spark's own writers would cost a commit protocol, and a second copy of each row, for a file that is merged at once.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from stream_app.flows.chain import link
from stream_app.flows.flow import Flow
from stream_app.sources.split_rows import Batches
from stream_app.storage.form import Form

_PART = pa.schema([("partition", pa.string()), ("path", pa.string()), ("rows", pa.int64()), ("told", pa.binary())])


@dataclass(frozen=True)
class Part:
    """Rows of one task, for one folder of the output: a complete file in the staging folder."""

    partition: str
    """The folder inside of the output, as `event_date=2026-11-21`; "" for the output itself."""
    path: Path
    rows: int
    told: Any = None
    """What the task told beside its rows (Step.told). One that told something and wrote nothing has a part, too."""


@dataclass(frozen=True)
class Parts:
    """What the tasks of a batch have left in the staging folder, and what is told of the batch (sinks/protocol.py)."""

    parts: list[Part]
    counters: Mapping[str, int] = field(default_factory=dict)
    gauges: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What a task does with the rows that Spark gives it, before it writes them."""

    columns: StructType
    function: Callable[[Batches], Batches]
    told: Callable[[], object] = lambda: None
    """Asked in the task once its rows are written; pickled with `function`, so a method of the same object knows."""


def write_parts(
    flow: Flow,
    form: Form,
    step: Step | None,
    frame: DataFrame,
    folder: Path,
    says: Mapping[bytes, bytes] | None = None,
    divided: Callable[[Batches], Iterable[tuple[str, Batches]]] = lambda batches: [("", batches)],
) -> list[Part]:
    """Run the batch; the parts in the order of its tasks, none for a task without rows.

    `says` is what their metadata has beside the link of the flow's files; `divided` tells which folder rows are for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns = to_arrow_schema(step.columns if step else frame.schema, timezone="UTC")
    columns = columns.with_metadata({**link(flow), **(says or {})})
    write = form.part_writer(columns)

    def task(batches: Batches) -> Batches:
        if step:
            batches = step.function(batches)
        stem, wrote = f"part-{attempt()}", False
        for partition, own in divided(batches):
            path = folder / f"{stem}-{partition}"
            if count := write((batch for batch in own if batch.num_rows), path):
                told = pickle.dumps(step.told() if step else None)
                part = {"partition": partition, "path": str(path), "rows": count, "told": told}
                yield pa.RecordBatch.from_pylist([part], _PART)
                wrote = True
        if step and not wrote and (alone := step.told()) is not None:
            part = {"partition": "", "path": "", "rows": 0, "told": pickle.dumps(alone)}
            yield pa.RecordBatch.from_pylist([part], _PART)

    # no more tasks than cores: for a small batch, each costs more than its rows
    cores = frame.sparkSession.sparkContext.defaultParallelism
    found = frame.coalesce(cores).mapInArrow(task, "partition string, path string, rows long, told binary").collect()
    # of our own tasks
    return [Part(row.partition, Path(row.path), row.rows, pickle.loads(row.told)) for row in found]  # noqa: S301


def attempt() -> str:
    """Return what a task names its files by, in its driver's folder.

    Each attempt has a name of its own: one given up may still write when the next one does.
    """
    context = TaskContext.get()
    assert context is not None  # noqa: S101 - Spark calls this in a task
    return f"{context.partitionId():05d}-{context.taskAttemptId()}"
