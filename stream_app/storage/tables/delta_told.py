"""What a Delta table says of itself by delta-rs, in the words of table.py, and the properties of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

from stream_app.storage.tables.table import File, Version

_OWN = "stream_app."
"""Begins the properties of a table that say who writes it, and what we say of a commit."""
_LOG_KEPT = "delta.logRetentionDuration"
_KEPT = re.compile(r"interval (\d+) hours")


def kept(hours: int) -> dict[str, str]:
    """Return the properties of a table whose versions are kept for so many hours."""
    interval = f"interval {hours} hours"
    return {
        # of other writers: entries since the last checkpoint are what a reader reads
        "delta.checkpointInterval": "10",
        _LOG_KEPT: interval,
        "delta.deletedFileRetentionDuration": interval,
        "delta.enableExpiredLogCleanup": "true",
    }


def kept_of(properties: Mapping[str, str]) -> int | None:
    """Return for how many hours the versions of a table are kept."""
    found = _KEPT.fullmatch(properties.get(_LOG_KEPT, ""))
    return int(found[1]) if found else None


def named(says: Mapping[str, str]) -> dict[str, str]:
    """Return what we say under the names that it has in a table's properties and in its log."""
    return {f"{_OWN}{key}": value for key, value in says.items()}


def own_of(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return what of it `named` has named."""
    return {key.removeprefix(_OWN): str(value) for key, value in properties.items() if key.startswith(_OWN)}


def files_of(table: DeltaTable) -> list[File]:
    """Return the files that hold the rows of a table."""
    found = pa.table(table.get_add_actions())
    asked = [one for one in ("path", "size_bytes", "num_records", "partition") if one in found.column_names]
    return [
        File(
            unquote(one["path"]),
            int(one["size_bytes"]),
            int(one["num_records"] or 0),
            {key: None if value is None else _text(value) for key, value in (one.get("partition") or {}).items()},
        )
        for one in found.select(asked).to_pylist()  # not the statistics of each column
    ]


def version_of(entry: Mapping[str, Any]) -> Version:
    """Return the version that an entry of a table's history tells of."""
    says = own_of(entry)
    batch, query_id = says.pop("batch", None), says.pop("query", "")
    number = None if batch is None else int(batch)
    return Version(int(entry["version"]), int(entry["timestamp"]), str(entry["operation"]), number, query_id, says)


def _text(value: object) -> str:
    """Return a partition's value as the log spells it."""
    return json.dumps(value) if isinstance(value, bool) else str(value)
