"""What a contract says of a record, and of a batch of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.codecs.codec import Decoded

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a record is no row: at least one reason, by field in the feed's order, then late, future, lookups, rules."""

    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """The verdicts on a batch. Places are those of the records in it, from 0."""

    rejected: list[tuple[int, Rejected]]
    """In the order of their places."""
    _decoded: Decoded
    _columns: list[pa.Array]
    """Those of what was decoded."""
    _is_row: pa.Array
    """Which of the decoded are rows indeed."""
    _explained: list[tuple[int, Row]]
    """Rows that only the definition took."""

    @property
    def others(self) -> list[int]:
        """The places of records that may have members that no field is declared for."""
        return sorted(self._decoded.undeclared + self._decoded.doubtful)

    def rows(self) -> tuple[pa.Array, list[pa.Array]]:
        """Return the places of the rows, in order, and their columns, those of `Contract.columns`."""
        places = pa.concat_arrays(
            [
                pa.array(self._decoded.places).filter(self._is_row),
                pa.array([place for place, _ in self._explained], pa.int64()),
            ]
        )
        order = pc.sort_indices(places) if self._explained else None
        columns = [values.filter(self._is_row) for values in self._columns]
        if order is None:
            return places, columns
        explained = (pa.array([row[i] for _, row in self._explained], one.type) for i, one in enumerate(columns))
        joined = (pa.concat_arrays(both).take(order) for both in zip(columns, explained, strict=True))
        return places.take(order), list(joined)
