"""Whether the contenders did the same work: no figure counts before their outputs agree. DuckDB reads the files.

Bronze and quarantine hold the same records. Silver holds the same transactions; those who remove repeats hold each
txn_id once, and the baseline every record that it did not quarantine. From there each contender is held to its own
silver, repeats and all: the CSV is silver, and gold is what silver adds up to in every window that is final for all of
them. As their silvers agree, that says that their golds and CSVs do, in all that a repeat does not touch.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import duckdb

from stream_app.storage.row_counts import csv_dialect, paths
from tests.bench.contenders import LAYERS, files

REPEATS_STAY = "baseline"
NEAR_THE_END = timedelta(minutes=8)
"""How far before the newest event the last final window may end: the watermark's five minutes, a window, and slack."""

_COORDINATES = 'partition::INTEGER AS partition, "offset"::BIGINT AS "offset", epoch_us(kafka_ts) AS kafka_us'
_RECORD = f"key, value, {_COORDINATES}"
_TEXTS = "txn_id, user_id, card_id, merchant, category, currency, status, city, country"
_DECLARED = f"{_TEXTS}, event_us, amount, lat, lon"
_TYPED = f"""{_TEXTS}, epoch_us(event_time::TIMESTAMPTZ) AS event_us, amount::DECIMAL(18, 2) AS amount,
    lat::DOUBLE AS lat, lon::DOUBLE AS lon"""
_COLUMNS = {
    "bronze": _RECORD,
    "quarantine": _RECORD,
    "silver": f"{_TYPED}, {_COORDINATES}",
    "gold": """epoch_us(window_start) AS start_us, epoch_us(window_end) AS end_us, card_id, txn_count,
        sum_amount::DECIMAL(28, 2) AS sum_amount, avg_amount::DOUBLE AS avg_amount,
        max_amount::DECIMAL(18, 2) AS max_amount""",
    "raw_csv": _TYPED,
}
_MINUTE = 60_000_000


def disagreements(outputs: Mapping[str, Path], records: int) -> list[str]:
    """What is wrong with the outputs of the contenders, a line each."""
    with duckdb.connect() as database:
        return _Comparison(database, outputs).wrong(records)


class _Comparison:
    """One schema a contender in a database, one view in it a layer."""

    def __init__(self, database: duckdb.DuckDBPyConnection, outputs: Mapping[str, Path]) -> None:
        self._db, self._names = database, tuple(outputs)
        self._db.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        for name, output in outputs.items():
            self._db.execute(f"CREATE SCHEMA {_schema(name)}")
            for layer, found in files(output).items():
                listed = paths(found)
                reader = f"read_parquet({listed}, hive_partitioning = false)"
                if layer == "raw_csv":
                    reader = f"read_csv({listed}, all_varchar = true, {csv_dialect(found)})"
                self._db.execute(f"CREATE VIEW {_schema(name)}.{layer} AS SELECT {_COLUMNS[layer]} FROM {reader}")

    def wrong(self, records: int) -> list[str]:
        first, *others = self._names
        found = []
        for what, of in (
            ("bronze", "{}.bronze"),
            ("quarantine", "{}.quarantine"),
            ("silver, each row once,", f"(SELECT DISTINCT {_DECLARED} FROM {{}}.silver)"),
        ):
            expected = self._digest(of.format(_schema(first)))
            differing = [name for name in others if self._digest(of.format(_schema(name))) != expected]
            found += [f"{what} differs between {first} and {name}" for name in differing]
        for name in self._names:
            found += [f"{name}: {line}" for line in self._wrong_in(name, records)]
        return found

    def _wrong_in(self, name: str, records: int) -> list[str]:
        rows = {layer: self._number(f"SELECT count(*) FROM {_schema(name)}.{layer}") for layer in LAYERS}
        found = []
        if rows["bronze"] != records:
            found.append(f"bronze has {rows['bronze']:,} rows of {records:,}")
        if name == REPEATS_STAY:
            expected = records - rows["quarantine"]
        else:
            expected = self._number(f"SELECT count(DISTINCT txn_id) FROM {_schema(name)}.silver")
        if rows["silver"] != expected:
            found.append(f"silver has {rows['silver']:,} rows, not {expected:,}")
        if self._digest(f"(SELECT {_DECLARED} FROM {_schema(name)}.raw_csv)") != self._digest(
            f"(SELECT {_DECLARED} FROM {_schema(name)}.silver)"
        ):
            found.append("the CSV is not silver")
        return found + self._wrong_in_gold(name)

    def _wrong_in_gold(self, name: str) -> list[str]:
        horizon = min(self._number(f"SELECT coalesce(max(end_us), 0) FROM {_schema(n)}.gold") for n in self._names)
        newest = self._number(f"SELECT max(event_us) FROM {_schema(name)}.silver")
        if newest - horizon > NEAR_THE_END / timedelta(microseconds=1):
            return [
                f"the last window that is final for all ends {(newest - horizon) / 1e6:.0f} s before the newest event"
            ]
        differ = self._number(
            f"WITH s AS (SELECT event_us // {_MINUTE} * {_MINUTE} AS start_us, card_id, count(*) AS txn_count, "
            "sum(amount) AS sum_amount, avg(amount) AS avg_amount, max(amount) AS max_amount "
            f"FROM {_schema(name)}.silver GROUP BY 1, 2 HAVING start_us + {_MINUTE} <= {horizon}), "
            f"g AS (SELECT * FROM {_schema(name)}.gold WHERE end_us <= {horizon}) "
            "SELECT count(*) FROM s FULL JOIN g ON s.start_us = g.start_us AND s.card_id = g.card_id "
            "WHERE s.card_id IS NULL OR g.card_id IS NULL OR s.txn_count != g.txn_count "
            "OR s.sum_amount != g.sum_amount OR s.max_amount != g.max_amount "
            f"OR abs(s.avg_amount - g.avg_amount) > 0.000001 OR g.end_us != g.start_us + {_MINUTE}"
        )
        return [f"gold differs from silver in {differ:,} windows"] if differ else []

    def _digest(self, rows: str) -> tuple[object, ...]:
        """Rows and a sum of their hashes: equal for the same rows in any order."""
        digest = self._db.execute(f"SELECT count(*), sum(hash(r)::HUGEINT) FROM {rows} AS r").fetchone()
        assert digest
        return tuple(digest)

    def _number(self, sql: str) -> int:
        return int(self._db.execute(sql).fetchall()[0][0])


def _schema(contender: str) -> str:
    return f'"{contender}"'
