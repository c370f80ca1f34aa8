"""make audit - reconcile every output with bronze, from the files alone; exit 1 where a record is lost or doubled.

Each bronze (partition, offset) stands once in bronze, and is once in silver or quarantine, or repeats a record that
silver holds; gold equals silver's aggregates over the final windows, less the rows kept as late, and its sessions
likewise; the CSV equals silver. Tables of PostgreSQL equal the same, as far as they are final, where the database
answers.
What a layer has not taken yet (its committed offset says so) is counted as pending, and is no loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from stream_app.errors import StreamAppError
from stream_app.files import REPLAY, batch_files
from stream_app.flow import Flow, Layer
from stream_app.ops import recompute
from stream_app.ops.command import run
from stream_app.ops.sql import name, names, read_parquet
from stream_app.ops.tables import copy_tables
from stream_app.ops.views import COORDINATES, FilesChangedError, OpenFiles, database, declared, select, select_late
from stream_app.settings import Settings

_EXAMPLES = 20
_ATTEMPTS = 5


@dataclass
class Report:
    """What was found of one feed. `wrong` holds a line for each thing that must not be."""

    feed: str
    counts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def audit(settings: Settings, flows: tuple[Flow, ...]) -> int:
    """Print a report for each feed."""
    reports = [reconcile(flow, settings) for flow in flows if flow.layer is Layer.BRONZE]
    for report in reports:
        table = Table(title=f"audit of {report.feed}", title_justify="left", box=SIMPLE, show_header=False)
        for counted, count in report.counts.items():
            table.add_row(counted, f"{count:,}")
        Console().print(table)
        for line in report.wrong:
            print(f"WRONG {line}")
        print("nothing lost, nothing twice" if not report.wrong else f"{len(report.wrong)} things are wrong")
    return 1 if any(report.wrong for report in reports) else 0


def reconcile(bronze: Flow, settings: Settings) -> Report:
    """Audit the feed of that bronze flow, beside a running service, too.

    Retention may take a file away while they are looked up: then it begins again. Once they are open, it may do so.
    """
    changed: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            with OpenFiles() as files:
                return _Audit(bronze, settings, files).report()
        except (FilesChangedError, FileNotFoundError) as error:
            changed = error
    problem = (
        f"the files of {bronze.feed.name} changed {_ATTEMPTS} times while they were looked up; try again ({changed})"
    )
    raise StreamAppError(problem)


class _Audit:
    def __init__(self, bronze: Flow, settings: Settings, files: OpenFiles) -> None:
        """Open what stands now; it is read until `files` is closed."""
        found = bronze.with_downstream()
        flows = {flow.layer: flow for flow in found}
        derived = [flow for flow in found if flow.drops_late]
        self._lakes = [flow for flow in found if flow.layer is Layer.LAKE]
        self._feed = bronze.feed
        self._pruned = settings.retention == "prune"
        self._report = Report(bronze.feed.name)
        self._db = database()
        self._db.execute(f"SET preserve_insertion_order = false; CREATE SCHEMA {self._feed.name}")
        rows, late = (partial(read, opened=files.path) for read in (select, select_late))
        # Committed positions first, files after: what is committed has its file by then.
        committed = {flow.sink: flow.checkpoint.last_committed() for flow in found}
        taken = {sink: one.end["batch"] if one and "batch" in one.end else -1 for sink, one in committed.items()}
        own = {sink: one.batch_id if one else -1 for sink, one in committed.items()}
        self._watermarks = {sink: (one.watermark_ms if one else 0) / 1000 for sink, one in committed.items()}
        due = min(taken[Layer.SILVER], taken[Layer.QUARANTINE])
        replay = one.end.get(REPLAY, -1) if (one := committed[Layer.SILVER]) else -1
        silver, csv = flows[Layer.SILVER], flows[Layer.RAW_CSV]
        ledger = [file.path for file in batch_files(silver.replay, REPLAY, up_to=replay)]
        views = {
            "bronze": rows(flows[Layer.BRONZE]),
            "due": rows(flows[Layer.BRONZE], due),
            "silver": rows(silver, own[Layer.SILVER]),
            "quarantine": rows(flows[Layer.QUARANTINE], own[Layer.QUARANTINE]),
            "replayed": f"SELECT * FROM {read_parquet(ledger)}" if ledger else rows(silver, -1),
            "for_csv": rows(silver, taken[Layer.RAW_CSV]),
            "csv": rows(csv, own[Layer.RAW_CSV]),
        }
        for gold in derived:
            for_gold, is_table = rows(silver, taken[gold.sink]), gold.layer is Layer.TABLE
            views[f"for_{gold.sink}"] = recompute.as_stored(gold, for_gold) if is_table else for_gold
            views[gold.late_name] = late(gold, own[gold.sink])
            if not is_table:
                views[gold.sink] = rows(gold, own[gold.sink])
        for lake in self._lakes:
            views[f"for_{lake.sink}"] = rows(silver, taken[lake.sink])
            views[lake.sink] = rows(lake, own[lake.sink])
        # to copy a table may take long, and by now every file is open
        self._golds = [flow for flow in derived if flow.layer is not Layer.TABLE or self._has_copied(flow, settings)]
        views |= {gold.sink: self._final_rows(gold) for gold in self._golds if gold.layer is Layer.TABLE}
        for view, sql in views.items():
            self._db.execute(f"CREATE VIEW {view} AS {sql}")

    def _has_copied(self, table: Flow, settings: Settings) -> bool:
        """Copy a table out of PostgreSQL, or note why it is not audited."""
        try:
            copy_tables(self._db, [table], settings)
        except StreamAppError as error:
            self._report.counts[f"not audited: {error}"] = 1
            return False
        return True

    def _final_rows(self, table: Flow) -> str:
        """What was final at the batch that is audited; the table may be ahead of that."""
        ended, watermark = "epoch(window_end)", self._watermarks[table.sink]
        if not table.is_windowed:
            gap = table.session.gap.total_seconds()
            ended = f"epoch(session_end) + CASE outcome WHEN 'ended' THEN 0 ELSE {gap} END"
        return f"SELECT * EXCLUDE (final) FROM {self._feed.name}.{table.sink} WHERE final AND {ended} <= {watermark}"

    def report(self) -> Report:
        golds = [view for gold in self._golds for view in (gold.sink, gold.late_name)]
        lakes = [lake.sink for lake in self._lakes]
        for layer in ("bronze", "silver", "quarantine", "replayed", "csv", *golds, *lakes):
            self._report.counts[layer] = self._number(f"SELECT count(*) FROM {layer}")
        self._report.counts["pending"] = self._report.counts["bronze"] - self._number("SELECT count(*) FROM due")
        self._report.counts["offsets without a record in bronze"] = self._number(
            'SELECT coalesce(sum(greatest(0, "last" - "first" + 1 - n)), 0) FROM (SELECT min("offset") AS "first", '
            'max("offset") AS "last", count(*) AS n FROM bronze GROUP BY partition)'
        )
        for layer in ("bronze", "silver", "quarantine"):
            self._examples(
                f"doubled in {layer}",
                f'SELECT partition, "offset" FROM {layer} GROUP BY ALL HAVING count(*) > 1',
            )
        self._once()
        if self._pruned:
            self._report.counts["not audited: RETENTION=prune deletes files"] = 1
        else:
            self._lost()
            for gold in self._golds:
                check = self._windows if gold.is_windowed else self._sessions
                check(gold)
            self._mirror("csv", names(self._feed.fields), recompute.csv_columns(self._feed))
            for lake in self._lakes:
                columns = names((*self._feed.fields, *COORDINATES))
                self._mirror(lake.sink, columns, columns)
        return self._report

    def _once(self) -> None:
        self._examples(
            "in silver and in quarantine",
            'SELECT partition, "offset" FROM silver SEMI JOIN quarantine USING (partition, "offset") '
            'ANTI JOIN replayed USING (partition, "offset")',
        )

    def _lost(self) -> None:
        key, wire = self._feed.dedupe.key, self._feed.wire_name(self._feed.dedupe.key)
        kind = declared(self._feed)[key]
        self._db.execute(
            'CREATE TEMP TABLE missing AS SELECT partition, "offset", value FROM due '
            'ANTI JOIN (SELECT partition, "offset" FROM silver UNION ALL SELECT partition, "offset" FROM quarantine) '
            'USING (partition, "offset")'
        )
        self._db.execute(
            'CREATE TEMP TABLE repeats AS SELECT partition, "offset" FROM (SELECT partition, "offset", '
            f"CASE WHEN json_valid(text) THEN json_extract_string(text, '$.\"{wire}\"') END AS repeated "
            "FROM (SELECT *, try(decode(value)) AS text FROM missing)) "
            f"SEMI JOIN silver s ON TRY_CAST(repeated AS {kind}) = s.{name(key)}"
        )
        self._report.counts["repeats"] = self._number("SELECT count(*) FROM repeats")
        self._examples(
            "lost: in bronze, not in silver or quarantine, and no repeat",
            'SELECT partition, "offset" FROM missing ANTI JOIN repeats USING (partition, "offset")',
        )
        for layer in ("silver", "quarantine"):
            self._examples(
                f"in {layer}, not in bronze",
                f'SELECT partition, "offset" FROM {layer} ANTI JOIN bronze USING (partition, "offset")',
            )

    def _sessions(self, flow: Flow) -> None:
        sink, watermark = flow.sink, self._watermarks[flow.sink] * 1000
        rows = f'(SELECT * FROM for_{sink} ANTI JOIN {flow.late_name} USING (partition, "offset"))'
        expected = recompute.sessions(flow.session, self._feed.event_time.field, rows, watermark)
        self._examples(
            f"{sink} is not what silver's final sessions are",
            f"(FROM {sink} EXCEPT ALL ({expected})) UNION ALL (({expected}) EXCEPT ALL FROM {sink})",
        )
        keys = names(("session_start", *flow.session.keys))
        self._examples(
            f"a session of {sink} stands twice", f"SELECT {keys} FROM {sink} GROUP BY ALL HAVING count(*) > 1"
        )

    def _windows(self, flow: Flow) -> None:
        gold, sink = flow.window, flow.sink
        keys = [name(key) for key in ("window_start", "window_end", *gold.keys)]
        time, watermark = self._feed.event_time.field, self._watermarks[sink]
        expected = recompute.windows(gold, time, f"for_{sink}", flow.late_name, watermark)
        # an average is rounded to Spark's decimals, and a sum of doubles depends on their order; a null is neither
        differ = " OR ".join(
            f"coalesce(abs(g.{name(column)} - s.{name(column)}) > 0.000001 * greatest(1, abs(s.{name(column)})), true)"
            if one.function == "avg" or (one.field and self._feed.fields[one.field].type == "double")
            else f"g.{name(column)} IS DISTINCT FROM s.{name(column)}"
            for column, one in gold.measures.items()
        )
        self._examples(
            f"{sink} is not what silver's final windows add up to",
            f"SELECT {', '.join(f'coalesce(g.{key}, s.{key})' for key in keys)} "
            f"FROM {sink} g FULL JOIN ({expected}) s ON {' AND '.join(f'g.{key} = s.{key}' for key in keys)} "
            f"WHERE g.window_start IS NULL OR s.window_start IS NULL OR {differ}",
        )
        self._examples(
            f"a window of {sink} stands twice",
            f"SELECT {', '.join(keys)} FROM {sink} GROUP BY ALL HAVING count(*) > 1",
        )

    def _mirror(self, view: str, columns: str, shown: str) -> None:
        """Compare a view with what silver's rows look like in it."""
        sums = f"SELECT count(*), sum(hash({columns})::HUGEINT) FROM"
        expected = f"(SELECT {shown} FROM for_{view})"
        if self._db.sql(f"{sums} {view}").fetchall() == self._db.sql(f"{sums} {expected}").fetchall():
            return
        self._examples(
            f"{view} is not silver",
            f"(SELECT {columns} FROM {view} EXCEPT ALL {expected}) UNION ALL "
            f"({expected} EXCEPT ALL SELECT {columns} FROM {view})",
        )

    def _number(self, sql: str) -> int:
        return int(self._db.sql(sql).fetchall()[0][0])

    def _examples(self, what: str, sql: str) -> None:
        """Note the rows that should not be, with the first of them."""
        count = self._number(f"SELECT count(*) FROM ({sql})")
        if count:
            rows = self._db.sql(f"SELECT * FROM ({sql}) ORDER BY ALL LIMIT {_EXAMPLES}").fetchall()
            self._report.wrong.append(f"{what}: {count:,}, {', '.join(_listed(rows))}")


def _listed(rows: list[tuple[object, ...]]) -> Iterator[str]:
    for row in rows:
        yield "(" + ", ".join(map(str, row)) + ")"


if __name__ == "__main__":
    run("audit", audit)
