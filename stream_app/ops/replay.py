"""make replay [FEED=] [REASON=] [ALLOW=late] [DRY_RUN=1] - take records out of quarantine that pass now.

Judges the quarantined records again by today's feed file (after a rule was mended), forgiving the reasons in ALLOW, and
puts those that pass into the feed's ledger, which silver's query reads beside bronze; gold and the CSV follow silver.
REASON chooses the records that have that reason (missing, or missing:amount). The ledger makes it idempotent: a record
in it is not taken again, and neither is one whose dedupe key silver holds. DRY_RUN=1 only counts, by reason.
"""

from __future__ import annotations

import fcntl
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from stream_app.contract.columns import typed
from stream_app.contract.contract import Contract, Rejected
from stream_app.errors import ConfigError
from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow, Layer
from stream_app.ops.command import flag, option, run
from stream_app.ops.plans import PLANNED, with_plans
from stream_app.ops.sql import name, read_parquet, view
from stream_app.ops.status import foreign
from stream_app.ops.views import connect
from stream_app.settings import Settings
from stream_app.storage import lock
from stream_app.storage.batch_files import REPLAY, batch_file, batch_files, replace

_BATCH_ROWS = 10_000


@dataclass
class Verdicts:
    """The records that pass, as rows of silver, and why the others do not."""

    rows: list[tuple[object, ...]] = field(default_factory=list)
    passing: Counter[str] = field(default_factory=Counter)
    failing: Counter[str] = field(default_factory=Counter)


def replay(settings: Settings, flows: tuple[Flow, ...]) -> int:
    """Replay each feed, and say what was done."""
    is_dry = flag("DRY_RUN")
    if not settings.output_path.is_dir():
        raise ConfigError(f"OUTPUT_PATH: there is no folder {settings.output_path}")
    allowed = frozenset(reason.strip() for reason in option("ALLOW").split(",") if reason.strip())
    for silver in (flow for flow in flows if flow.layer is Layer.SILVER):
        contract = Contract(silver.feed, forgive=allowed)
        silver.layout.replay_lock.parent.mkdir(parents=True, exist_ok=True)
        with silver.layout.replay_lock.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"another replay of {silver.feed.name} is under way; wait for it to end") from None
            verdicts = _judge(flows, silver, contract)
            _print(silver.feed, verdicts)
            if is_dry or not verdicts.rows:
                continue
            ledger = _append(silver, verdicts.rows)
        when = "now" if lock.is_held(settings.output_path) else "with the next start"
        print(f"{len(verdicts.rows):,} records are in the ledger ({ledger}); silver takes them {when}")
    return 0


def _judge(flows: tuple[Flow, ...], silver: Flow, contract: Contract) -> Verdicts:
    """Judge what is in quarantine and not in the ledger; of two with one dedupe key the first passes."""
    verdicts = Verdicts()
    key = contract.columns.index(silver.feed.dedupe.key)
    database = connect([flow for flow in flows if flow.feed is silver.feed])
    held: set[object] = set()
    for batch in _candidates(database, silver):
        kafka_us = batch["kafka_ts"].cast(pa.int64()).to_pylist()
        coordinates = zip(*(batch[column].to_pylist() for column in ("topic", "partition", "offset")), strict=True)
        judged = map(contract.check, batch["value"].to_pylist(), kafka_us, batch[PLANNED].to_pylist())
        passed = []
        for verdict, reasons, at, where in zip(
            judged, batch["reasons"].to_pylist(), kafka_us, coordinates, strict=True
        ):
            if isinstance(verdict, Rejected):
                verdicts.failing.update(verdict.reasons)
            else:
                passed.append(((*verdict, at, *where), reasons))
        held |= _held(database, silver.feed, [row[key] for row, _ in passed])
        for row, reasons in passed:
            if row[key] in held:
                verdicts.failing["repeat of a record that silver holds"] += 1
                continue
            held.add(row[key])
            verdicts.rows.append(row)
            verdicts.passing.update(reasons)
    return verdicts


def _candidates(database: duckdb.DuckDBPyConnection, silver: Flow) -> Iterator[pa.RecordBatch]:
    """The quarantined records with REASON that are not in the ledger, in Kafka's order."""
    reason = option("REASON")
    ledger = [file.path for file in batch_files(silver.layout.replay, REPLAY)]
    done = f'ANTI JOIN {read_parquet(ledger)} USING (partition, "offset")' if ledger else ""
    quarantined = with_plans(database, silver.feed, silver.root)
    sql = (
        f'SELECT value, reasons, kafka_ts, topic, partition, "offset", {PLANNED} FROM ({quarantined}) {done} '
        # without a field it is that of any; a field's name may have a colon
        "WHERE $reason = '' OR list_contains(reasons, $reason) OR (NOT contains($reason, ':') "
        "AND len(list_filter(reasons, x -> starts_with(x, $reason || ':'))) > 0) "
        'ORDER BY kafka_ts, partition, "offset"'
    )
    yield from database.execute(sql, {"reason": reason}).to_arrow_reader(_BATCH_ROWS)


def _held(database: duckdb.DuckDBPyConnection, feed: Feed, keys: list[object]) -> set[object]:
    key = name(feed.dedupe.key)
    sql = f"SELECT {key} FROM {view(feed.name, Layer.SILVER)} WHERE list_contains($keys, {key})"
    return {row[0] for row in database.cursor().execute(sql, {"keys": keys}).fetchall()} if keys else set()


def _append(silver: Flow, rows: list[tuple[object, ...]]) -> str:
    """Write the rows as the ledger's next file, which appears whole or not at all."""
    columns = to_arrow_schema(schema.silver(silver.feed), timezone="UTC")
    arrays = [typed(values, column.type) for values, column in zip(zip(*rows, strict=True), columns, strict=True)]
    number = max((file.last for file in batch_files(silver.layout.replay, REPLAY)), default=-1) + 1
    target = batch_file(silver.layout.replay, REPLAY, "parquet", int(time.time() * 1000), number).path
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"_{target.name}.tmp")
    pq.write_table(pa.Table.from_arrays(arrays, schema=columns), partial, compression="zstd")
    replace(partial, target)
    return target.name


def _print(feed: Feed, verdicts: Verdicts) -> None:
    table = Table(title=f"quarantine of {feed.name}, by reason", title_justify="left", box=SIMPLE)
    for column in ("reason", "passes now", "fails still"):
        table.add_column(column, justify="left" if column == "reason" else "right")
    for reason in sorted({*verdicts.passing, *verdicts.failing}):
        table.add_row(foreign(reason), f"{verdicts.passing[reason]:,}", f"{verdicts.failing[reason]:,}")
    Console().print(table)


if __name__ == "__main__":
    run("replay", replay)
