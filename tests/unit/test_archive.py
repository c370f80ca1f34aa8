"""RETENTION=prune with a Delta table of bronze: what was pruned is read from the table, as if it were still there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pydantic import SecretStr

from stream_app.errors import ConfigError
from stream_app.feeds.schema import PLANNED
from stream_app.flows import chain
from stream_app.ops import archive, tables, views
from stream_app.ops.audit.report import Verdict
from stream_app.ops.plans import with_plans
from stream_app.ops.reset import apply, planned
from stream_app.sinks.protocol import sink_of
from stream_app.sources.lookups import Lookups
from stream_app.storage import pins, snapshots
from stream_app.storage.batch_files import batch_file, replace
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.planned import merged
from stream_app.storage.snapshots import KEY
from tests.helpers import app_settings, reconciled
from tests.outputs import Output, Record
from tests.tables import follow
from tests.unit.audited import FEED, at, lines, made, record, with_tables

RAW = '[sinks.raw]\nof = "bronze"\nto = "delta"\n'
LAST = 5
"""The newest batch of bronze."""


def archived(root: Path, monkeypatch: pytest.MonkeyPatch, keys: str = "", *, first: int = 0) -> Output:
    """An output with a table of bronze, which follows it from its file of that number on."""
    output = made(f"{FEED}{RAW}{keys}", "main", root)
    with_tables(output, monkeypatch)
    fill(output, first)
    return output


def fill(output: Output, first: int = 0) -> None:
    """Have the table follow bronze, by a query with an id as Spark gives it: it is part of the names of files."""
    raw = output.flows["raw"]
    (raw.checkpoint.path / "metadata").write_text('{"id": "q"}')
    follow(raw, output.flows["bronze"].files()[first:])


def prune(output: Output, up_to: int, sink: str = "bronze") -> list[Path]:
    """Delete the files of the batches up to one, as RETENTION=prune does; return them."""
    flow = output.flows[sink]
    chain.let_go(flow, up_to)
    gone = [file.path for file in flow.files(up_to=up_to)]
    for path in gone:
        path.unlink()
    return gone


def compacted(output: Output) -> None:
    """Merge the small files of the table, as the service does beside its batches."""
    flow = output.flows["raw"]
    # files of few rows are merged without the JVM
    sink_of(flow).tidying(flow, cast(Hadoop, None), 2)()


def optimized(output: Output) -> None:
    assert [one.after for one in tables.optimize([output.flows["raw"]])]


def untouched(_: Output) -> None:
    pass


@pytest.mark.parametrize(
    ("keys", "change", "up_to"),
    [
        ("", untouched, 0),
        ("", compacted, LAST),
        ('partition_by = "date(kafka_ts)"\ntext = true', optimized, 3),
        ('cluster_by = ["offset", "key"]', optimized, LAST),
    ],
)
def test_the_audit_finds_what_it_would_without_pruning(
    output: Output,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keys: str,
    change: Callable[[Output], None],
    up_to: int,
) -> None:
    """Also where the table's small files were merged, or put into another order."""
    before = reconciled(output.flows["bronze"])
    pruned = archived(tmp_path / "pruned", monkeypatch, keys)
    change(pruned)
    assert prune(pruned, up_to)
    after = reconciled(pruned.flows["bronze"], retention="prune")
    assert (after.verdict, after.not_audited) == (Verdict.RIGHT, []), lines(after)
    assert after.counts == {**before.counts, "raw": 19}


def test_files_are_made_again_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With several partitions, null keys, values and headers, and merged files: rows, order and what they say."""
    output = made(FEED + RAW, "main", tmp_path)
    with_tables(output, monkeypatch)
    bronze = output.flows["bronze"]
    output.pin = pins.pin({"of": "0" * 32})
    several = [record(20, 92), Record(b'"\x00\xff', at(93), key=None), Record(None, at(92.5), key="a\x00")]
    for _ in range(2):
        output.take([*several, *(Record(b"x", at(1e6), partition=n) for n in (3, 3, 11))], at(93))
    files = bronze.files()
    whole = pa.concat_tables([pq.read_table(file.path) for file in files[-2:]])
    parts = [pq.read_metadata(file.path) for file in files[-2:]]
    says = {**merged(parts), **pins.merged(parts)}
    ids = files[-2].first, files[-1].last
    one = batch_file(bronze.layout.output, "bronze", "parquet", int(files[-2].time.timestamp() * 1000), *ids)
    pq.write_table(whole.replace_schema_metadata(says), one.path)
    for file in files[-2:]:
        file.path.unlink()
    headers = pq.read_table(files[0].path)
    with_some = pa.array([[{"key": "h", "value": b"\x01"}], [], None, None], headers.schema.field("headers").type)
    changed = headers.set_column(2, headers.schema.field("headers"), with_some)
    pq.write_table(changed.replace_schema_metadata(headers.schema.metadata), files[0].path)
    fill(output)
    kept = {file.path.name: pq.read_table(file.path) for file in bronze.files()}
    prune(output, bronze.files()[-1].last)
    found = archive.of(bronze, bronze.files())
    assert found
    back = {file.path.name: pq.read_table(file.path) for file in found.make(tmp_path)}
    assert list(back) == list(kept)
    for name, table in kept.items():
        assert back[name].equals(table), name
        assert back[name].schema.metadata == table.schema.metadata, name


def test_what_no_table_has_is_not_audited_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table was declared when bronze had two batches."""
    output = archived(tmp_path, monkeypatch, first=2)
    prune(output, 3)
    report = reconciled(output.flows["bronze"], retention="prune")
    assert report.wrong == []
    assert report.counts["bronze"] == 10
    assert "bronze: files up to that of batch 1 were deleted or given up" in report.not_audited


def test_a_table_that_lacks_a_file_is_read_from_behind_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = archived(tmp_path, monkeypatch)
    bronze, raw = output.flows["bronze"], output.flows["raw"]
    gone = bronze.files()[1].path.name
    DeltaTable(str(raw.layout.output)).delete(f"_file = '{gone}'")
    prune(output, 3)
    found = archive.of(bronze, bronze.files())
    assert found
    assert [one.file.first for one in found.files] == [2, 3]
    assert found.before == 1


def test_a_table_of_an_earlier_version_knows_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = archived(tmp_path, monkeypatch)
    DeltaTable(str(output.flows["raw"].layout.output)).update(updates={"_file": "NULL"})
    prune(output, 3)
    assert archive.of(output.flows["bronze"], output.flows["bronze"].files()) is None


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ({"value": "CAST('x' AS BYTEA)"}, "in silver, though the contract refuses it"),
        ({'"offset"': '"offset" + 100'}, "in silver, not in bronze"),
    ],
)
def test_what_was_altered_in_the_table_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: dict[str, str], expected: str
) -> None:
    output = archived(tmp_path, monkeypatch)
    prune(output, 3)
    DeltaTable(str(output.flows["raw"].layout.output)).update(updates=sql, predicate='"offset" = 3')
    report = reconciled(output.flows["bronze"], retention="prune")
    assert expected in lines(report)
    assert report.verdict is Verdict.WRONG


@pytest.mark.parametrize("sink", ["silver", "raw"])
def test_a_reset_brings_back_what_is_to_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sink: str
) -> None:
    """Of the table, too: it would be emptied, and its rows be nowhere."""
    output = archived(tmp_path, monkeypatch)
    bronze = output.flows["bronze"]
    before = {path.name: pq.read_table(path) for path in output.paths("bronze")}
    prune(output, 3)
    unused = app_settings(tmp_path)
    with planned(list(output.flows.values()), unused.kafka, "earliest", sink) as plan:
        (shown,) = [one.reads_from for one in plan.sinks if one.name == f"main.{sink}"]
        place = output.flows["raw"].layout.output
        assert shown == f"main.bronze, batch 0 (4 files made again from {place}, 2 files)"
        apply(plan)
    assert {path.name: pq.read_table(path) for path in output.paths("bronze")} == before
    assert chain.gone(bronze) == -1
    assert list(chain.lost(bronze)) == []
    assert not output.flows[sink].checkpoint.path.exists()


def test_a_reset_for_which_the_disk_is_too_small_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = archived(tmp_path, monkeypatch)
    prune(output, 3)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    unused = app_settings(tmp_path)
    refused = pytest.raises(
        ConfigError, match=r"made again from .*/raw in .*/bronze: about \d+ MB are needed, and 0 MB"
    )
    with planned(list(output.flows.values()), unused.kafka, "earliest", "silver") as plan, refused:
        apply(plan)
    assert output.flows["silver"].checkpoint.path.exists()
    assert len(output.paths("silver")) > 0


def test_a_reset_that_died_half_way_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = archived(tmp_path, monkeypatch)
    bronze = output.flows["bronze"]
    prune(output, 3)
    found, renamed = archive.of(bronze, bronze.files()), list[Path]()

    def dies(partial: Path, final: Path) -> None:
        if len(renamed) == 2:
            raise OSError("no space is left")
        renamed.append(final)
        replace(partial, final)

    assert found
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space is left"):
        patch.setattr(archive, "replace", dies)
        found.bring_back()
    assert [file.first for file in bronze.files()] == [2, 3, 4, 5]
    assert (chain.gone(bronze), list(chain.lost(bronze))) == (3, [])
    assert reconciled(bronze, retention="prune").verdict is Verdict.RIGHT
    again = archive.of(bronze, bronze.files())
    assert again
    again.bring_back()
    assert [file.first for file in bronze.files()] == [*range(LAST + 1)]
    assert chain.gone(bronze) == -1


@pytest.mark.parametrize("up_to", [1, LAST])
def test_a_replay_judges_by_the_times_that_the_table_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, up_to: int
) -> None:
    """No record passes that was ahead of our clock, and none is refused that was not."""
    output = archived(tmp_path, monkeypatch)
    bronze = output.flows["bronze"]

    def planned_times() -> list[tuple[object, ...]]:
        with views.connected(list(output.flows.values())) as database:
            sql = f'SELECT partition, "offset", {PLANNED} FROM ({with_plans(database, bronze, LAST)}) ORDER BY 1, 2'
            return database.sql(sql).fetchall()

    before = planned_times()
    assert [time for *_, time in before] == [int(at(minutes).timestamp() * 1e6) for minutes in (1, 5, 5, 6)]
    prune(output, up_to)
    for file in output.flows["quarantine"].files():  # a later time, which is the next best where no table has it
        file.path.rename(batch_file(file.path.parent, "quarantine", "parquet", 2**40, file.first).path)
    assert planned_times() == before


def test_snapshots_that_only_the_table_names_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in pins of records that are judged again after a reset."""
    monkeypatch.setattr("stream_app.sources.lookups._YOUNG_SECONDS", -60)
    just_booted = SimpleNamespace(time=time.time, monotonic=lambda: 60.0)
    monkeypatch.setattr("stream_app.sources.lookups.time", just_booted)
    output = archived(tmp_path, monkeypatch)
    bronze = output.flows["bronze"]
    rows = snapshots.sorted_by_key(pa.table({KEY: ["a"]}))
    for flow, kept in ((bronze, 1), (made(FEED, "main", tmp_path / "without").flows["bronze"], 0)):
        snapshots.save(flow.layout.lookups, "one", rows)
        Lookups(flow, tmp_path, SecretStr("")).pin()
        assert len([*snapshots.names(flow.layout.lookups)]) == kept
