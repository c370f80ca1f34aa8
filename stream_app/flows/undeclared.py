"""Fields that records have and nobody has declared, as silver has counted them: kept beside its checkpoint.

The file is `undeclared.json` in the checkpoint folder, so a reset of silver takes it along. A batch that runs again
is counted once: the file has the newest batch that it holds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from stream_app.contract.undeclared import MOST_PATHS, OTHERS, Undeclared
from stream_app.flows.batch import Batch
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import replace_text
from stream_app.storage.checkpoint import damaged


@dataclass(frozen=True)
class UndeclaredField:
    """A path, how many records have it, and when batches with such were planned: milliseconds since the epoch."""

    path: str
    records: int
    first_ms: int
    last_ms: int
    sample: str
    """The first value seen, as JSON, cut where it is long; empty for OTHERS."""


def read(silver: Flow) -> dict[str, UndeclaredField]:
    """Return the fields by path. Raises StreamAppError where the file cannot be read."""
    return _read(silver)[1]


def note(silver: Flow, batch: Batch, found: Undeclared) -> Mapping[str, int]:
    """Add what a batch has found, unless an earlier run of it did; return its counts by the paths that are kept."""
    if not found.counts:
        return {}
    newest, fields = _read(silver)
    counts = Counter[str]()
    for path, count in found.counts.items():
        counts[path if path in fields or len(fields | counts) < MOST_PATHS else OTHERS] += count
    if batch.id > newest:
        for path, count in counts.items():
            new = UndeclaredField(path, 0, batch.time_ms, batch.time_ms, found.samples.get(path, ""))
            old = fields.get(path, new)
            fields[path] = replace(old, records=old.records + count, last_ms=batch.time_ms)
        held = {"batch": batch.id, "fields": [asdict(field) for field in fields.values()]}
        replace_text(silver.layout.undeclared, json.dumps(held))
    return counts


def _read(silver: Flow) -> tuple[int, dict[str, UndeclaredField]]:
    try:
        held = json.loads(silver.layout.undeclared.read_text())
        fields = [UndeclaredField(**field) for field in held["fields"]]
        return int(held["batch"]), {field.path: field for field in fields}
    except FileNotFoundError:
        return -1, {}
    except (ValueError, LookupError, TypeError):
        raise damaged(silver.layout.undeclared) from None
