"""A dataset as a Delta table: any reader of Delta sees each batch at once, and every version until vacuum.

Guarantee: exactly once, as sinks/tables.py. Tasks write the files, and the driver alone commits them, by delta-rs
(storage/tables/delta.py), which no process may use that forks. So it is imported where a table is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pyarrow.parquet as pq

from stream_app.flows.flow import Flow
from stream_app.sinks.tables import TableSink
from stream_app.storage.tables.delta_statistics import statistics
from stream_app.storage.tables.table import Look, Table


class DeltaSink(TableSink):
    """The dataset as a Delta table."""

    to: Literal["delta"]
    """The kind of sink."""

    def table(self, flow: Flow) -> Table:
        """Return the flow's table, which may not be there yet."""
        from stream_app.storage.tables.delta_on_disk import table_at  # noqa: PLC0415 - 129 MB, which most processes need not

        return table_at(self.root(flow))

    def look(self, flow: Flow) -> Look | None:
        """Return what the flow's table holds by now; None where it is not there."""
        from stream_app.storage.tables.delta_looks import look_at  # noqa: PLC0415 - as above

        return look_at(self.root(flow))

    @property
    def statistics(self) -> Callable[[pq.FileMetaData], str]:
        """What makes of a footer what the table's log says of a file."""
        return statistics
