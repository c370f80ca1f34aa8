"""What the log shows of the rows of a batch: the newest of them, and what records look like that were refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app import logs
from stream_app.flows.flow import Flow
from stream_app.observe.hints import Hints

_PREVIEW_ROWS = 5


class Samples:
    """Shows rows of the files of one start. It changes nothing."""

    def __init__(self, show_previews: bool) -> None:
        self._show_previews = show_previews
        self._hints = Hints()

    def show(self, flow: Flow, file: Path) -> None:
        """Log what is to be seen in the file of a dataset's batch, as its kind says."""
        if flow.kind.counted:
            self._hints.give(flow.name, file)
        if not self._show_previews or not (time := flow.kind.previewed_by):
            return
        newest = pq.read_table(file).sort_by([(time, "descending")]).slice(0, _PREVIEW_ROWS)
        shown = [c.cast(pa.string()) if pa.types.is_timestamp(c.type) else c for c in newest.columns]  # of any year
        for row in pa.table(shown, newest.column_names).to_pylist():
            logs.info(f"{flow.name} preview", **row)
