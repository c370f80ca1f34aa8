"""What is valid and not in silver must repeat a row that silver kept; and what silver kept repeats none.

Keys are the dedupe keys of the contract's rows. A record that is missing is right if silver keeps an earlier row of its
key. That row's clock must be possibly within `within` of the clock at the start of the batch (clocks.py has what is
known of both). Two rows of one key are wrong if the later one's batch must have known of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from stream_app.contract.times import microseconds
from stream_app.feeds.feed import Feed
from stream_app.feeds.sql import name, text
from stream_app.ops.audit.clocks import Clocks, one_batch, read_by_us
from stream_app.ops.audit.findings import Findings
from stream_app.ops.audit.judge import LOST, key_type
from stream_app.ops.audit.places import NOWHERE, Numbers, Places
from stream_app.ops.audit.stored import Stored

_KEPT_AGAIN = "silver kept a row though it held one of its key within the time in which repeats are dropped"
_AHEAD = 3_600_000_000
"""How far ahead of the broker's clock a Kafka timestamp may be."""


@dataclass(frozen=True)
class Repeats:
    """Judges what silver kept and left out."""

    database: duckdb.DuckDBPyConnection
    """Has silver as `_actual_silver`."""
    feed: Feed
    silver: Stored
    places: Places
    rows: Numbers
    """Bronze's row of each of silver's; NOWHERE for what was replayed, and where it has gone."""
    clocks: Clocks

    def check(self, absent: Sequence[pa.Table], findings: Findings, *, pruned: bool) -> tuple[int, int]:
        """Note what is lost and what was kept twice; return how many repeats there are, and how many may be such.

        `pruned`: silver's first files have gone, whose rows a record may repeat.
        """
        missing = pa.concat_tables([self._none(), *absent])
        dedupe = self.feed.dedupe
        if dedupe is None:
            findings.note(LOST, zip(missing["partition"].to_pylist(), missing["offset"].to_pylist(), strict=True))
            return 0, 0
        since = self.clocks.least(missing["_row"].to_numpy())
        self.database.register("_missing", missing.append_column("_since", pa.array(since, pa.int64())))
        self.database.register("_kept", self._kept())
        within = microseconds(dedupe.within)
        unexplained = self.database.sql(
            'SELECT m.partition, m."offset", m._since FROM _missing m ANTI JOIN _kept k ON m._key = k._key '
            f"AND (m._again OR (k._row < m._row AND k._most >= m._since - {within}))"
        ).fetchall()
        files = self.silver.files
        gone = read_by_us(files[0].file) + _AHEAD if files else 2**62
        lost = [row[:2] for row in unexplained if not (pruned and row[2] - within <= gone)]
        findings.note(LOST, lost)
        findings.query(
            self.database,
            _KEPT_AGAIN,
            'SELECT partition, "offset" FROM (SELECT *, lag(_batch) OVER key AS _earlier, max(_least) OVER '
            "(PARTITION BY _key ORDER BY _row ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS _before "
            "FROM _kept WHERE _row >= 0 WINDOW key AS (PARTITION BY _key ORDER BY _row)) "
            f"WHERE _before >= _since - {within} OR _earlier = _batch",
        )
        return missing.num_rows - len(unexplained), len(unexplained) - len(lost)

    def _none(self) -> pa.Table:
        key = pa.field("_key", key_type(self.feed, self.silver.columns))
        places = [self.silver.columns.field(column) for column in ("partition", "offset")]
        return pa.schema([*places, ("_row", pa.int64()), key, ("_again", pa.bool_())]).empty_table()

    def _kept(self) -> pa.Table:
        """Return silver's rows whose key another row or a missing record has, with bounds of their clocks."""
        parts = (f"{text(key.name)}: {name(key.name)}" for key in key_type(self.feed, self.silver.columns))
        key = f"{{{', '.join(parts)}}}"
        kept = self.database.sql(
            "WITH _wanted AS (SELECT hash(_key) AS _hash FROM _missing UNION "
            f"SELECT hash({key}) AS _hash FROM _actual_silver GROUP BY _hash HAVING count(*) > 1) "
            f'SELECT s.partition, s."offset", {key} AS _key, s.kafka_ts AS _time '
            f"FROM _actual_silver s SEMI JOIN _wanted w ON hash({key}) = w._hash"
        ).to_arrow_table()
        place = [kept[column].cast(pa.int64()).to_numpy() for column in ("partition", "offset")]
        own = self.places.find(*place)
        row, time = self.rows[own], kept["_time"].cast(pa.int64()).to_numpy()
        known, at = row != NOWHERE, np.maximum(row, 0)
        began = self.clocks.began(own)
        least, most = (np.where(began >= 0, began, bound) for bound in (self.clocks.least(at), self.clocks.most(at)))
        found = {
            "_row": row,
            "_batch": one_batch(self.silver, own),
            "_since": most,
            "_least": np.maximum(time, least),
            # when a row was replayed is not known
            "_most": np.maximum(time, np.where(known, most, self.clocks.ever())),
        }
        for column, values in found.items():
            kept = kept.append_column(column, pa.array(values, pa.int64()))
        return kept
