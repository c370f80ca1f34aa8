"""What a Delta sink of silver costs beside a plain folder: `python -m tests.bench.delta_sink [ROUNDS]`.

Batches of silver are written by one sink of each kind, in turns, in one Spark session. The CPU of all its processes,
from when the sink gets a batch to when it has it, is compared. The first batches warm up. Goal: 1.15.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pyspark.sql import DataFrame

from stream_app.feeds.growth import Columns
from stream_app.feeds.load import load_feeds
from stream_app.feeds.sinks import SinkTable
from stream_app.flows.flow import Flow
from stream_app.layers.kind import Kind
from stream_app.runtime.pipeline import Pipeline
from stream_app.settings import PROJECT
from stream_app.sinks.files import FileSink
from stream_app.sinks.registry import SINKS, flows
from stream_app.storage.parquet import Parquet
from stream_app.storage.row_counts import read_parquet
from tests.bench.meter import descendants
from tests.helpers import app_settings, silver_row, write_planned
from tests.spark.session import pipeline_of, running

WARM, ROUNDS = 3, 12
SIZES = (2_000, 100_000)
"""Rows a batch: what a live service brings, and what a drain does."""


class Copies(FileSink):
    """The dataset as a plain folder, as its own is, but of rows that are there already."""

    to: Literal["copies"]

    def form(self, kind: Kind) -> Parquet:  # noqa: ARG002
        return Parquet()

    def read(self, kind: Kind, columns: Columns, files: Sequence[Path]) -> str:  # noqa: ARG002
        return f"SELECT * FROM {read_parquet(files)}"


def main(rounds: int) -> None:
    """Print the means, and how they compare."""
    SINKS["copies"] = Copies
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as spark:
        for rows in SIZES:
            settings = app_settings(Path(name) / f"of {rows}", trigger_interval="available-now")
            pipeline, found = pipeline_of(spark, settings), _flows(settings.output_path)
            spent: dict[str, list[float]] = {"copies": [], "delta": []}
            for batch in range(WARM + rounds):
                write_planned(found["silver"], batch, [silver_row(batch * rows + n, n / 100) for n in range(rows)])
                for kind in sorted(spent, reverse=bool(batch % 2)):
                    spent[kind].append(_drained(pipeline, found[kind]))
            copies, delta = (statistics.mean(spent[kind][WARM:]) for kind in ("copies", "delta"))
            costs = f"a plain folder {copies * 1000:.0f} ms of CPU, Delta {delta * 1000:.0f} ms"
            print(f"{rows:,} rows a batch: {costs}: {delta / copies:.2f}, load {os.getloadavg()[0]:.0f}", flush=True)


def _flows(root: Path) -> dict[str, Flow]:
    (feed,) = load_feeds(PROJECT / "conf" / "feeds", ["transactions"])
    sinks = {kind: SinkTable.model_validate({"of": "silver", "to": kind}) for kind in ("copies", "delta")}
    return {flow.sink: flow for flow in flows([feed.model_copy(update={"sinks": sinks})], root)}


def _drained(pipeline: Pipeline, flow: Flow) -> float:
    """CPU-seconds of the batches that a flow has not taken yet."""
    spent = 0.0

    def write(frame: DataFrame, batch_id: int) -> None:
        nonlocal spent
        before = _cpu()
        pipeline.write(flow, frame, batch_id)
        spent += _cpu() - before

    query = pipeline.start(flow, write)
    try:
        query.processAllAvailable()
    finally:
        query.stop()
    return spent


def _cpu() -> float:
    """What this process and all that it has started have used so far; workers live as long as the session."""
    ticks = 0
    for pid in (os.getpid(), *descendants(os.getpid(), 0.0)):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
