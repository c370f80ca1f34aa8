"""Retention keeps folders small and loses nothing: not before every reader has committed, not when it dies."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from stream_app import logs
from stream_app.feeds.feed import Feed
from stream_app.flows import chain
from stream_app.flows.flow import Flow
from stream_app.runtime import retention
from stream_app.runtime.retention import Retention
from stream_app.sinks.csv import header
from stream_app.sinks.registry import flows
from stream_app.storage import checkpoint, merging
from stream_app.storage.batch_files import batch_files
from stream_app.storage.filesystem import Hadoop
from tests.helpers import app_settings, commit, plan, silver_row, write_layer

MOST = 4
BATCHES = 11


class Folder:
    """Silver with BATCHES micro-batches of two rows, that itself, gold and raw_csv have committed."""

    def __init__(self, spark: SparkSession, feed: Feed, root: Path) -> None:
        self.flows, self.hadoop = flows([feed], root), Hadoop(spark)
        self.silver = self.flows[2]
        for batch in range(BATCHES):
            self.add(batch)
        for flow in self.silver.with_downstream():
            self.committed(flow, BATCHES - 1)

    def add(self, batch: int) -> None:
        file = write_layer(self.silver, batch, [silver_row(batch * 2), silver_row(batch * 2 + 1)])
        rows = pq.read_table(file.path)
        pq.write_table(rows.replace_schema_metadata(chain.link(self.silver)), file.path)
        self.silver.checkpoint.path.mkdir(parents=True, exist_ok=True)
        chain.remember(self.silver, file.path)

    def committed(self, flow: Flow, batch: int) -> None:
        plan(flow, batch, {"batch": batch})
        commit(flow, batch)

    def tidy(self, **overrides: Any) -> None:
        settings = app_settings(self.silver.root, max_files_per_sink=MOST, **overrides)
        Retention(self.flows, self.hadoop, settings.retention, settings.max_files_per_sink).run_once()

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return [(file.first, file.last) for file in batch_files(self.silver.layout.output, "silver")]

    @property
    def rows(self) -> list[int]:
        """What a reader gets, in the order of the batches."""
        return [n for file in self.silver.files() for n in pq.read_table(file.path)["offset"].to_pylist()]


@pytest.fixture
def folder(spark: SparkSession, feed: Feed, tmp_path: Path) -> Iterator[Folder]:
    logs.configure("text")
    folder = Folder(spark, feed, tmp_path)
    yield folder
    rows = folder.rows
    assert rows == list(range(rows[-1] + 1 - len(rows), rows[-1] + 1)), "a row was lost, doubled or moved"


def test_compaction_keeps_rows_and_order_and_the_newest_micro_batches(folder: Folder) -> None:
    folder.tidy()
    assert folder.ranges == [(0, 8), (9, 9), (10, 10)]
    assert len(folder.rows) == 2 * BATCHES
    assert list((folder.silver.layout.output / "_staging").rglob("*.parquet")) == []


def test_a_merged_file_is_no_larger_than_a_reset_can_read_at_once(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But where two micro-batches are larger already."""
    size = folder.silver.files()[0].path.stat().st_size
    monkeypatch.setattr(merging, "_LARGEST_BYTES", 3 * size + size // 2)
    folder.tidy()
    assert folder.ranges == [(0, 2), (3, 5), (6, 8), (9, 9), (10, 10)]
    monkeypatch.setattr(merging, "_LARGEST_BYTES", 1)
    for batch in range(BATCHES, BATCHES + 6):
        folder.add(batch)
        for flow in folder.silver.with_downstream():
            folder.committed(flow, batch)
    folder.tidy()
    assert folder.ranges[3:] == [(9, 10), (11, 12), (13, 14), (15, 15), (16, 16)]


def test_no_file_is_touched_that_a_reader_has_not_committed(folder: Folder) -> None:
    gold = folder.flows[3]
    for path in (gold.checkpoint.path / "commits").iterdir():
        path.unlink()
    folder.committed(gold, 3)
    folder.tidy()
    assert folder.ranges == [(0, 3), *((batch, batch) for batch in range(4, BATCHES))]
    folder.tidy(retention="prune")
    assert folder.ranges == [(batch, batch) for batch in range(4, BATCHES)]
    for path in (gold.checkpoint.path / "commits").iterdir():
        path.unlink()
    before = folder.ranges
    folder.tidy()
    assert folder.ranges == before


@pytest.mark.parametrize("mode", ["compact", "prune"])
def test_no_commit_is_relied_on_that_a_power_cut_could_take_back(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    done = list[str]()
    monkeypatch.setattr(checkpoint, "sync", lambda path: done.append(f"{path.parents[1].name} {path.name}"))

    def noted(change: Callable[..., None]) -> Callable[..., None]:
        def note(*paths: Path) -> None:
            done.append("changed")
            change(*paths)

        return note

    monkeypatch.setattr(folder.hadoop, "publish", noted(folder.hadoop.publish))
    monkeypatch.setattr(folder.hadoop, "delete", noted(folder.hadoop.delete))
    folder.tidy(retention=mode)
    before = done[: done.index("changed")]
    assert {f"{flow.sink} {BATCHES - 1}" for flow in folder.silver.with_downstream()} <= set(before)


@pytest.mark.parametrize(("mode", "expected"), [("keep", BATCHES), ("prune", MOST)])
@pytest.mark.proves("What RETENTION=prune deletes is gone", "silver")
def test_keep_keeps_and_prune_deletes_the_oldest(folder: Folder, mode: str, expected: int) -> None:
    folder.tidy(retention=mode)
    assert folder.ranges == [(batch, batch) for batch in range(BATCHES - expected, BATCHES)]
    assert list(chain.lost(folder.silver)) == []
    folder.silver.files_of(BATCHES - expected)[0].path.unlink()
    assert list(chain.lost(folder.silver)) == [BATCHES - expected]


@pytest.mark.parametrize("point", ["merged", "swapped", "half_deleted"])
@pytest.mark.proves("Readers see whole files", "silver")
def test_dying_anywhere_in_a_merge_is_finished_by_the_next_run(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    reached = []

    def die(_flow: str, at: str, _batch: int | None = None) -> None:
        if at == point:
            reached.append(at)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, "reach", die)
        with pytest.raises(KeyboardInterrupt):
            folder.tidy()
    assert reached == [point]
    assert len(folder.rows) == 2 * BATCHES
    folder.tidy()
    assert folder.ranges == [(0, 8), (9, 9), (10, 10)]


def test_a_merged_file_of_somebody_else_takes_nothing_away(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """It was copied in, and its name covers batches of ours."""
    stranger = write_layer(folder.silver, 0, [silver_row(0)], last=8).path
    pq.write_table(pa.table({"n": [1]}).replace_schema_metadata({b"query_id": b"of-another"}), stranger)
    logs.configure("text")
    for mode in ("keep", "compact", "prune"):
        folder.tidy(retention=mode)
        assert len(folder.ranges) == BATCHES + 1
        assert "are of one batch; move out what transactions.silver has not written" in capsys.readouterr().err
    stranger.unlink()


def test_no_merge_goes_over_a_gap(folder: Folder) -> None:
    """Or nobody would notice it any more, and a file that is put back would be taken for a merged one."""
    lost = folder.silver.files_of(3)[0].path
    kept = lost.read_bytes()
    lost.unlink()
    folder.tidy()
    assert folder.ranges == [(0, 2), (4, 8), (9, 9), (10, 10)]
    assert list(chain.lost(folder.silver)) == [3]
    lost.write_bytes(kept)
    folder.tidy()
    assert folder.ranges == [(0, 2), (3, 3), (4, 8), (9, 9), (10, 10)]


def test_what_was_copied_in_is_not_merged(folder: Folder) -> None:
    """In place of a file of ours, under the running service: the next start must still find it."""
    own = folder.silver.files_of(3)[0].path
    rows = pq.read_table(own)
    pq.write_table(rows.replace_schema_metadata(rows.schema.metadata | {b"query_id": b"of-another"}), own)
    folder.silver.checkpoint.path.joinpath("metadata").write_text('{"id": "ours"}')
    folder.tidy()
    assert folder.ranges == [(0, 2), (3, 3), (4, 8), (9, 9), (10, 10)]
    assert chain.stranger(folder.silver, "ours") == own


@pytest.mark.proves("What RETENTION=prune deletes is gone", "silver")
def test_a_full_disk_is_pruned(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = chain.let_go

    def no_room(flow: Flow, batch: int) -> None:
        if len(folder.ranges) == BATCHES:
            raise OSError("No space left on device")
        let_go(flow, batch)

    monkeypatch.setattr(chain, "let_go", no_room)
    folder.tidy(retention="prune")
    assert folder.ranges == [(batch, batch) for batch in range(BATCHES - MOST, BATCHES)]
    assert list(chain.lost(folder.silver)) == []


def test_many_batches_leave_few_files(folder: Folder) -> None:
    """At most MAX_FILES_PER_SINK micro-batches, and larger files whose number is bounded."""
    for batch in range(BATCHES, 300):
        folder.add(batch)
        if batch % MOST == 0:
            for flow in folder.silver.with_downstream():
                folder.committed(flow, batch)
            folder.tidy()
            assert sum(first == last for first, last in folder.ranges) <= 2 * MOST
            assert sum(first != last for first, last in folder.ranges) <= merging.MOST_MERGED + 1
    assert folder.rows == list(range(600))


def test_the_mirror_is_merged_with_one_header(folder: Folder) -> None:
    mirror = folder.flows[4]
    first_line = header(mirror.kind).decode()
    for batch in range(BATCHES):
        path = write_layer(mirror, batch, []).path
        path.with_suffix(".csv").write_text(f"{first_line}{batch}\r\n", newline="")
        path.unlink()
    folder.tidy()
    merged, *rest = mirror.files()
    assert len(rest) == 2
    assert merged.path.read_bytes().decode() == first_line + "".join(f"{n}\r\n" for n in range(9))


def test_a_folder_that_fails_is_told_and_does_not_stop_the_others(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tidy: Callable[..., None] = Retention._tidy

    def fail_first(self: Retention, flow: Flow, path: Path, prefix: str) -> None:
        if flow.sink == "bronze":
            raise OSError("disk full")
        tidy(self, flow, path, prefix)

    monkeypatch.setattr(Retention, "_tidy", fail_first)
    logs.configure("text")
    folder.tidy()
    assert folder.ranges[0] == (0, 8)
    assert "transactions.bronze retention failed" in capsys.readouterr().err


def test_what_was_merged_is_read_by_spark_with_its_columns_and_checksums(folder: Folder, spark: SparkSession) -> None:
    before = spark.read.parquet(str(folder.silver.layout.output)).schema
    folder.tidy()
    frame = spark.read.parquet(str(folder.silver.layout.output))
    assert frame.schema == before
    assert frame.count() == 2 * BATCHES
