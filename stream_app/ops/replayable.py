"""What a replay chooses from: the records that wait in quarantine, and the dedupe keys that silver holds already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa

from stream_app.feeds.feed import Feed
from stream_app.feeds.sql import name, view
from stream_app.flows.flow import Flow
from stream_app.layers.kind import SILVER
from stream_app.ops.plans import PLANNED, with_plans
from stream_app.storage.batch_files import REPLAY, batch_files
from stream_app.storage.row_counts import read_parquet

_BATCH_ROWS = 10_000


def candidates(database: duckdb.DuckDBPyConnection, waiting: str, reason: str) -> Iterator[pa.RecordBatch]:
    """Yield the records with the reason that wait in quarantine, in Kafka's order."""
    sql = (
        f'SELECT value, reasons, kafka_ts, topic, partition, "offset", {PLANNED} FROM {waiting} '
        # without a field it is that of any; a field's name may have a colon
        "WHERE $reason = '' OR list_contains(reasons, $reason) OR (NOT contains($reason, ':') "
        "AND len(list_filter(reasons, x -> starts_with(x, $reason || ':'))) > 0) "
        'ORDER BY kafka_ts, partition, "offset"'
    )
    yield from database.execute(sql, {"reason": reason}).to_arrow_reader(_BATCH_ROWS)


def reasons_in(database: duckdb.DuckDBPyConnection, waiting: str) -> tuple[str, ...]:
    """Return the reasons that waiting records have."""
    sql = f"SELECT DISTINCT unnest(reasons) FROM {waiting} ORDER BY 1"
    return tuple(reason for (reason,) in database.execute(sql).fetchall())


def waiting_in(database: duckdb.DuckDBPyConnection, silver: Flow, up_to: int) -> str:
    """Return the SQL for the quarantined records up to that batch that are not in the ledger.

    Raises FilesChangedError where a file was merged across it.
    """
    ledger = [file.path for file in batch_files(silver.layout.replay, REPLAY)]
    done = f' ANTI JOIN {read_parquet(ledger)} USING (partition, "offset")' if ledger else ""
    assert silver.upstream  # noqa: S101 - it is bronze
    return f"({with_plans(database, silver.upstream, up_to)}){done}"


def held_keys(
    database: duckdb.DuckDBPyConnection, feed: Feed, wanted: Sequence[tuple[object, ...]]
) -> set[tuple[object, ...]]:
    """Return those of the wanted keys that a row of silver has. They are values as the contract has them."""
    if not wanted or not feed.dedupe_keys:
        return set()
    columns = zip(feed.dedupe_keys, zip(*wanted, strict=True), strict=True)
    keys = {key: pa.array(values, feed.columns[key].arrow) for key, values in columns}
    cursor = database.cursor()
    cursor.register("_wanted", pa.table({**keys, "_place": range(len(wanted))}))
    sql = f"SELECT _place FROM _wanted SEMI JOIN {view(feed.name, SILVER)} USING ({', '.join(map(name, keys))})"
    return {wanted[place] for (place,) in cursor.execute(sql).fetchall()}
