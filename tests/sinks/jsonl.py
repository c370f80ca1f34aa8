"""The sketch of a new sink, as docs/architecture.md tells it: files of JSON lines.

This file and a line in sinks/registry.py are all that it takes; here the line is in conftest.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.types import StringType, StructField, StructType

from stream_app.feeds.growth import Columns
from stream_app.feeds.sql import text
from stream_app.layers.kind import Kind
from stream_app.layers.reading import Reading
from stream_app.sinks import json_text
from stream_app.sinks.files import FileSink
from stream_app.storage.lines import LINE, Lines
from stream_app.storage.row_counts import paths


class JsonLinesSink(FileSink):
    """The dataset as JSON, an object a line."""

    to: Literal["jsonl"]
    """The kind of sink."""

    def form(self, kind: Kind) -> Lines:  # noqa: ARG002
        return Lines("jsonl")

    def taken(self, kind: Kind) -> StructType:  # noqa: ARG002
        return StructType([StructField(LINE, StringType())])

    def reading(self, kind: Kind) -> Reading:
        return Reading(kind.columns, lambda rows: pa.RecordBatch.from_arrays([_lines(rows)], [LINE]))

    def read(self, kind: Kind, columns: Columns, files: Sequence[Path]) -> str:  # noqa: ARG002
        typed = ", ".join(f"{text(name)}: {text(_as_text(one.duckdb))}" for name, one in columns.items())
        return f"SELECT * FROM read_json({paths(files)}, format = 'newline_delimited', columns = {{{typed}}})"

    def sql_columns(self, kind: Kind) -> dict[str, str]:
        return {name: _as_text(one) for name, one in kind.sql_columns.items()}


def _as_text(kind: str) -> str:
    """Return the type in DuckDB; binary values are base64 in JSON."""
    return kind.replace("BLOB", "VARCHAR")


def _lines(rows: pa.RecordBatch) -> pa.Array:
    return pc.binary_join_element_wise(json_text.objects(rows), "\n", "")
