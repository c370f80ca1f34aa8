"""Take records out of quarantine that pass by now.

The quarantined records are judged again by today's feed file. Those that pass go into the feed's ledger, which silver's
query reads beside bronze; gold and the CSV follow silver. The ledger makes it idempotent: a record in it is not taken
again, and neither is one whose dedupe key silver holds.
"""

from __future__ import annotations

import fcntl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.contract.contract import FORGIVABLE, Contract, Rejected
from stream_app.errors import ConfigError
from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.feeds.sql import name, view
from stream_app.flows.flow import Flow
from stream_app.layers.kind import SILVER
from stream_app.ops.plans import PLANNED, with_plans
from stream_app.ops.views import connect
from stream_app.storage import lock
from stream_app.storage.batch_files import REPLAY, batch_file, batch_files, replace
from stream_app.storage.row_counts import read_parquet

_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class ReplayReport:
    """What a replay of one feed found and did."""

    feed: str
    passing: Counter[str]
    """The reasons of the records that pass now, each with how many had it."""
    failing: Counter[str]
    """Why records do not pass, each with how many."""
    records: int
    """How many pass."""
    ledger: str | None
    """The file that they are in; None where none passes, or it was to be a dry run."""
    is_running: bool
    """Whether a service runs, which takes them at once."""
    reasons: tuple[str, ...] = ()
    """The reasons that records in quarantine have, where none has the one that was asked for."""


@dataclass
class _Verdicts:
    """The records that pass, as rows of silver, and why the others do not."""

    rows: list[tuple[object, ...]] = field(default_factory=list)
    passing: Counter[str] = field(default_factory=Counter)
    failing: Counter[str] = field(default_factory=Counter)
    reasons: tuple[str, ...] = ()


def replay(
    root: Path, flows: Sequence[Flow], *, reason: str = "", allow_late: bool = False, is_dry: bool = False
) -> tuple[ReplayReport, ...]:
    """Replay each feed; with `is_dry` only look.

    `reason` chooses the records that have it, as `missing:amount`, or `missing` for that of any field. `allow_late`
    forgives lateness. Raises ConfigError where OUTPUT_PATH is not there, or another replay is under way.
    """
    if not root.is_dir():
        raise ConfigError(f"OUTPUT_PATH: there is no folder {root}")
    forgiven = frozenset({FORGIVABLE}) if allow_late else frozenset[str]()
    silvers = [flow for flow in flows if flow.is_own and flow.kind.takes_replayed]
    return tuple(_replay(flows, silver, Contract(silver.feed, forgive=forgiven), reason, is_dry) for silver in silvers)


def _replay(flows: Sequence[Flow], silver: Flow, contract: Contract, reason: str, is_dry: bool) -> ReplayReport:
    silver.layout.replay_lock.parent.mkdir(parents=True, exist_ok=True)
    with silver.layout.replay_lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another replay of {silver.feed.name} is under way; wait for it to end") from None
        found = _judge(flows, silver, contract, reason)
        ledger = None if is_dry or not found.rows else _append(silver, found.rows)
    is_running = lock.is_held(silver.root)
    counts = found.passing, found.failing, len(found.rows)
    return ReplayReport(silver.feed.name, *counts, ledger, is_running, found.reasons)


def _judge(flows: Sequence[Flow], silver: Flow, contract: Contract, reason: str) -> _Verdicts:
    """Judge what is in quarantine and not in the ledger; of two with one dedupe key the first passes."""
    verdicts = _Verdicts()
    keys = [contract.columns.index(key) for key in _keys(silver.feed)]
    database = connect([flow for flow in flows if flow.feed is silver.feed])
    held: set[tuple[object, ...]] = set()
    for batch in _candidates(database, silver, reason):
        kafka_us = batch["kafka_ts"].cast(pa.int64()).to_pylist()
        coordinates = zip(*(batch[column].to_pylist() for column in ("topic", "partition", "offset")), strict=True)
        judged = contract.check_each(batch["value"].to_pylist(), kafka_us, batch[PLANNED].to_pylist())
        passed = []
        for verdict, reasons, at, where in zip(
            judged, batch["reasons"].to_pylist(), kafka_us, coordinates, strict=True
        ):
            if isinstance(verdict, Rejected):
                verdicts.failing.update(verdict.reasons)
            else:
                passed.append(((*verdict, at, *where), reasons))
        identified = [tuple(row[key] for key in keys) for row, _ in passed]
        held |= _held(database, silver.feed, identified)
        for (row, reasons), key in zip(passed, identified, strict=True):
            if keys and key in held:
                verdicts.failing["repeat of a record that silver holds"] += 1
                continue
            held.add(key)
            verdicts.rows.append(row)
            verdicts.passing.update(reasons)
    if reason and not verdicts.passing and not verdicts.failing:
        verdicts.reasons = _reasons(database, silver)
    return verdicts


def _candidates(database: duckdb.DuckDBPyConnection, silver: Flow, reason: str) -> Iterator[pa.RecordBatch]:
    """Yield the records with the reason that wait in quarantine, in Kafka's order."""
    sql = (
        f'SELECT value, reasons, kafka_ts, topic, partition, "offset", {PLANNED} FROM {_waiting(database, silver)} '
        # without a field it is that of any; a field's name may have a colon
        "WHERE $reason = '' OR list_contains(reasons, $reason) OR (NOT contains($reason, ':') "
        "AND len(list_filter(reasons, x -> starts_with(x, $reason || ':'))) > 0) "
        'ORDER BY kafka_ts, partition, "offset"'
    )
    yield from database.execute(sql, {"reason": reason}).to_arrow_reader(_BATCH_ROWS)


def _reasons(database: duckdb.DuckDBPyConnection, silver: Flow) -> tuple[str, ...]:
    sql = f"SELECT DISTINCT unnest(reasons) FROM {_waiting(database, silver)} ORDER BY 1"
    return tuple(reason for (reason,) in database.execute(sql).fetchall())


def _waiting(database: duckdb.DuckDBPyConnection, silver: Flow) -> str:
    """Return the SQL for the quarantined records that are not in the ledger."""
    ledger = [file.path for file in batch_files(silver.layout.replay, REPLAY)]
    done = f' ANTI JOIN {read_parquet(ledger)} USING (partition, "offset")' if ledger else ""
    assert silver.upstream  # noqa: S101 - it is bronze
    return f"({with_plans(database, silver.upstream)}){done}"


def _keys(feed: Feed) -> tuple[str, ...]:
    return feed.dedupe.keys if feed.dedupe else ()


def _held(
    database: duckdb.DuckDBPyConnection, feed: Feed, wanted: Sequence[tuple[object, ...]]
) -> set[tuple[object, ...]]:
    """Return the keys of rows of silver that are among the wanted ones; of several columns, some others, too."""
    columns = [name(key) for key in _keys(feed)]
    if not wanted or not columns:
        return set()
    among = " AND ".join(f"list_contains(${number}, {column})" for number, column in enumerate(columns, 1))
    sql = f"SELECT DISTINCT {', '.join(columns)} FROM {view(feed.name, SILVER)} WHERE {among}"
    return {*database.cursor().execute(sql, [[*values] for values in zip(*wanted, strict=True)]).fetchall()}


def _append(silver: Flow, rows: list[tuple[object, ...]]) -> str:
    """Write the rows as the ledger's next file, which appears whole or not at all."""
    columns = to_arrow_schema(schema.silver(silver.feed), timezone="UTC")
    arrays = [pa.array(values, column.type) for values, column in zip(zip(*rows, strict=True), columns, strict=True)]
    number = max((file.last for file in batch_files(silver.layout.replay, REPLAY)), default=-1) + 1
    target = batch_file(silver.layout.replay, REPLAY, "parquet", int(time.time() * 1000), number).path
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"_{target.name}.tmp")
    pq.write_table(pa.Table.from_arrays(arrays, schema=columns), partial, compression="zstd")
    replace(partial, target)
    return target.name
