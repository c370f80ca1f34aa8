"""What a sink says of a micro-batch: rows, files, and counters of what became of records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LATE = "late"
"""Counts rows that came after their window or session was final."""
REPEATS = "repeats"
"""Counts rows that were left out as repeats of others."""
LOOKUP_FAILED = "lookup_failed:"
"""Begins the counters of lookups, one for each: how often it could not be read while the service ran."""
REFUSED = "refused"
"""Counts rows that the sink's topic refused."""
REASON = "reason:"
"""Begins the counters of reasons, one for each: how often records were refused for it."""
UNDECLARED = "undeclared:"
"""Begins the counters of fields that are not declared, one for each path: how many records have it."""
WARNED = "warned:"
"""Begins the counters of rules that warn, one for each: of how many rows they warned."""
TAKEN, IN_TIME = "taken", "in_time"
"""Count silver's records of the topic, and those of them that were there in time (observe/promptness.py)."""
COLUMNS_ADDED = "columns_added"
"""Counts columns that a table was given because its feed grew."""
STATE_ROWS, STATE_BYTES = "state_rows", "state_bytes"
"""Gauges: how many rows the sink itself keeps from batch to batch, and the memory that these take."""


@dataclass(frozen=True)
class Report:
    """What became of a micro-batch; complete when the sink returns it."""

    batch_id: int
    rows_in: int
    """Rows of the layer before, or records of the topic, that the batch took."""
    rows_out: int
    files: tuple[Path, ...] = ()
    """The batch's files, in the order of their names; none of a batch without rows, or where no file is written."""
    bytes: int = 0
    """The size of these."""
    counters: Mapping[str, int] = field(default_factory=dict)
    gauges: Mapping[str, int] = field(default_factory=dict)

    @property
    def file(self) -> Path | None:
        """The newest of the files."""
        return self.files[-1] if self.files else None
