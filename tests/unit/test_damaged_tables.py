"""A Delta table whose log or files were damaged: what can be mended is, and commands tell the rest in one line."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from stream_app.errors import ConfigError
from stream_app.flows.flow import Flow
from stream_app.sinks import table_optimize
from stream_app.sinks.protocol import Tools, sink_of
from stream_app.storage.batch_files import sync
from stream_app.storage.filesystem import Hadoop
from stream_app.storage.tables import delta_log, delta_on_disk, on_disk
from stream_app.storage.tables.delta_on_disk import DeltaOnDisk
from stream_app.storage.tables.delta_statistics import statistics
from stream_app.storage.tables.on_disk import OnDisk
from stream_app.storage.tables.table import DamagedError
from tests.helpers import app_settings
from tests.tables import COLUMNS, mark, new, numbered, numbers
from tests.unit.conftest import Cli
from tests.unit.test_table_commands import feeds, flow

__all__ = ["feeds", "flow"]

TORN = (b"", b'{"commitInfo":{"timest', b"\0" * 300, b"\xff\xfe\n", b"[1]\n")
Damage = Callable[[Path], object]


@pytest.fixture
def table(tmp_path: Path) -> DeltaOnDisk:
    """Eleven batches, of which a checkpoint has ten."""
    table = new(tmp_path / "t")
    for batch in range(11):
        table.commit(mark(batch), [numbered(table, batch, batch)])
    return table


def log_of(table: DeltaOnDisk) -> Path:
    return Path(table.location, "_delta_log")


def entry(log: Path, version: int) -> Path:
    return log / f"{version:020d}.json"


def mended(table: DeltaOnDisk) -> tuple[list[str], DeltaOnDisk]:
    """The names of what a start deletes, and the table as it is then."""
    after = DeltaOnDisk(table.place)
    names = [Path(line.partition(" was torn")[0]).name for line in after.mend()]
    assert after.mend() == []
    return names, after


@pytest.mark.parametrize("torn", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("content", TORN)
def test_a_vacuum_that_a_power_cut_tore_is_mended(table: DeltaOnDisk, torn: tuple[int, ...], content: bytes) -> None:
    """It is two versions that are flushed together: either may be torn, or both."""
    numbered(table, 99, 0)  # which no version names
    table.vacuum(0, orphans=True)
    begun = table.version - 1
    assert begun == 12
    for number in torn:
        entry(log_of(table), begun + number).write_bytes(content)
    gone, after = mended(table)
    assert gone == [entry(log_of(table), version).name for version in range(begun + 1, begun + min(torn) - 1, -1)]
    assert after.written("q") == 10
    after.commit(mark(11), [numbered(table, 11, 11)])
    assert numbers(after) == [*range(12)]


def test_an_entry_that_brings_rows_is_never_taken_for_torn(table: DeltaOnDisk) -> None:
    entry(log_of(table), 10).write_bytes(b"{")
    gone, after = mended(table)
    assert gone == []
    with pytest.raises(DamagedError, match=r"its log cannot be read \(.*\); put it back from a copy"):
        after.refresh()


@pytest.mark.parametrize("left", ["entries", "a checkpoint before"])
def test_a_damaged_checkpoint_goes_where_its_rows_are_told_elsewhere(table: DeltaOnDisk, left: str) -> None:
    newest = max(log_of(table).glob("*.checkpoint.parquet"))
    if left == "a checkpoint before":
        for batch in range(11, 21):
            table.commit(mark(batch), [numbered(table, batch, batch)])
        before, newest = newest, max(log_of(table).glob("*.checkpoint.parquet"))
        assert before < newest
        for version in range(int(before.name[:20])):
            entry(log_of(table), version).unlink()
    held = numbers(table)
    newest.write_bytes(newest.read_bytes()[:100])
    gone, after = mended(table)
    assert gone == [newest.name]
    assert numbers(after) == held


def test_a_damaged_checkpoint_stays_where_nothing_else_tells_of_its_rows(table: DeltaOnDisk) -> None:
    (checkpoint,) = log_of(table).glob("*.checkpoint.parquet")
    for version in range(5):
        entry(log_of(table), version).unlink()
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:100])
    after = DeltaOnDisk(table.place)
    for _ in range(2):
        with pytest.raises(DamagedError, match=rf"{checkpoint} is damaged, and the entries that it covers are gone"):
            after.mend()
    checkpoint.write_bytes(whole)
    assert mended(table)[0] == []
    assert numbers(after) == [*range(11)]


@pytest.mark.parametrize("content", ["", "{rub", "[]", "{}", '{"version":99,"size":1}', '{"version":"x"}'])
def test_a_damaged_note_of_the_newest_checkpoint_is_deleted(table: DeltaOnDisk, content: str) -> None:
    note = log_of(table) / "_last_checkpoint"
    assert note.exists()
    note.write_text(content)
    _, after = mended(table)
    assert not note.exists()
    assert numbers(after) == [*range(11)]
    after.refresh()
    for batch in range(11, 31):
        after.commit(mark(batch), [numbered(table, batch, batch)])
    assert note.exists()


def _commit(table: DeltaOnDisk) -> None:
    table.commit(mark(11), [])


def _optimize(table: DeltaOnDisk) -> None:
    table.rewrite([numbered(table, 11, *range(11))], table.live())


def _vacuum(table: DeltaOnDisk) -> None:
    numbered(table, 99, 0)  # which no version names
    table.vacuum(0, orphans=True)


def _own(table: DeltaOnDisk) -> None:
    table.own({"sink": "transactions.x", "query": "q"}, 1)


def _add_columns(table: DeltaOnDisk) -> None:
    table.add_columns(pa.schema([("more", pa.string())]))


@pytest.mark.parametrize("change", [_commit, _optimize, _vacuum, _own, _add_columns])
def test_a_power_cut_at_any_flush_takes_no_row(
    table: DeltaOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[DeltaOnDisk], None]
) -> None:
    """After a pause of longer than versions are kept: what a checkpoint has may go, the checkpoint before it, too."""
    while table.version % 10 != 9:  # delta-rs makes one at each tenth
        _own(table)
    for path in log_of(table).iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    monkeypatch.setattr(delta_on_disk, "_FEWEST", 1)
    for number in itertools.count():
        folder = shutil.copytree(table.location, tmp_path / f"cut {number}")
        is_cut = _cut_at(number, DeltaOnDisk(OnDisk(folder)), change)
        gone, after = mended(DeltaOnDisk(OnDisk(folder)))
        assert numbers(after) == [*range(11)], gone
        if not is_cut:
            assert number > 0
            return


def _cut_at(number: int, table: DeltaOnDisk, change: Callable[[DeltaOnDisk], None]) -> bool:
    """Cut the power before a change's flush of that number, and tear all that is not on the disk by then."""
    whole, flushes = {*log_of(table).iterdir()}, itertools.count()

    def flush(path: Path) -> None:
        if next(flushes) == number:
            raise _PowerCutError
        sync(path)
        whole.add(path)

    table.refresh()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delta_log, "sync", flush)
        try:
            change(table)
        except _PowerCutError:
            for path in {*log_of(table).iterdir()} - whole:
                if b'"engineInfo":"stream_app"' not in path.read_bytes():  # which are flushed before they get a name
                    path.write_bytes(b"{")
            return True
    return False


class _PowerCutError(BaseException):
    """Ends a change."""


def _hole(log: Path) -> None:
    entry(log, 2).unlink()


def _torn_amid(log: Path) -> None:
    entry(log, 2).write_bytes(entry(log, 2).read_bytes()[:30])


def _torn_end(log: Path) -> None:
    entry(log, 4).write_bytes(entry(log, 4).read_bytes()[:30])


def _damaged_checkpoint(log: Path) -> None:
    table = DeltaOnDisk(OnDisk(log.parent))
    DeltaTable(table.location).create_checkpoint()
    (checkpoint,) = log.glob("*.checkpoint.parquet")
    checkpoint.write_bytes(b"PAR1")


DAMAGES: tuple[Damage, ...] = (_hole, _torn_amid, _torn_end, _damaged_checkpoint)
COMMANDS = (
    ("query", "--sql=FROM x"),
    ("show", "--sink=x"),
    ("history",),
    ("optimize",),
    ("vacuum",),
    ("restore", "--sink=x"),
    ("reset", "--sink=x", "--yes"),
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_table_that_cannot_be_read_is_one_line(cli: Cli, flow: Flow, feeds: str, damage: Damage) -> None:
    damage(flow.layout.output / "_delta_log")
    for command in COMMANDS:
        done = cli(flow.root, *command, FEEDS_PATH=feeds)
        assert (done.code, done.err.count("\n")) == (1, 1), done
        assert f"{flow.layout.output}: its log cannot be read (" in done.err
        assert len(done.err) < 600
    told = json.loads(cli(flow.root, "status", "--format=json", FEEDS_PATH=feeds).out)
    errors = {one["sink"]: one["last_error"] for one in told}
    assert "its log cannot be read" in errors.pop("x")
    assert not any(errors.values())
    audited = cli(flow.root, "audit", FEEDS_PATH=feeds)
    assert audited.code == 1
    assert "its log cannot be read" in audited.out + audited.err
    flow.layout.output.rename(flow.layout.output.with_name("away"))  # as the line says
    assert cli(flow.root, "reset", "--sink=x", "--yes", FEEDS_PATH=feeds).code == 0


def test_a_table_of_somebody_else_is_left_alone(cli: Cli, flow: Flow, feeds: str) -> None:
    """At a location may be anything. To vacuum it would delete what its own log does not name."""
    shutil.rmtree(flow.layout.output)
    write_deltalake(str(flow.layout.output), pa.table({"other": [1, 2]}))
    before = {*flow.layout.output.rglob("*")}
    for command in (("history",), ("optimize",), ("vacuum", "--yes"), ("restore", "--sink=x", "--yes")):
        done = cli(flow.root, *command, FEEDS_PATH=feeds)
        said = f"{command[0]}: {flow.layout.output} is not a table that transactions.x has written\n"
        assert (done.code, done.err) == (2, said)
    assert {*flow.layout.output.rglob("*")} == before


def test_a_file_that_is_gone_is_named(cli: Cli, flow: Flow, feeds: str) -> None:
    gone = next(flow.layout.output.rglob("*.parquet"))
    gone.unlink()
    done = cli(flow.root, "query", "--sql=FROM x", FEEDS_PATH=feeds)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert str(gone) in done.err


def test_a_file_that_is_damaged_is_named(cli: Cli, flow: Flow, feeds: str) -> None:
    damaged = next(flow.layout.output.rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    for sql in ("FROM x", "FROM x AT (VERSION => 4)"):
        done = cli(flow.root, "query", f"--sql={sql}", FEEDS_PATH=feeds)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert str(damaged) in done.err
        assert "/proc/" not in done.err


def test_what_optimize_writes_is_flushed_before_it_is_named(
    table: DeltaOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = list[str]()
    link = os.link

    def flush(path: Path) -> None:
        done.append(path.name)
        sync(path)

    def show(made: Path, entry: Path) -> None:
        done.append("commit")
        link(made, entry)

    monkeypatch.setattr(on_disk, "sync", flush)
    monkeypatch.setattr(os, "link", show)
    (work,) = table_optimize.planned(table, ())
    assert table_optimize.carry_out(table, COLUMNS, work, (), statistics) == 1
    (file,) = table.live()
    assert done[:3] == [file.path, "t", "commit"]


def test_an_optimize_that_fails_leaves_no_file(table: DeltaOnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {*Path(table.location).glob("*.parquet")}
    monkeypatch.setattr(table_optimize, "_TARGET_BYTES", 1)  # a file a batch of rows
    monkeypatch.setattr(table_optimize, "_ROWS_AT_ONCE", 1)
    written, count = on_disk.OnDisk.write, 0

    def write(self: OnDisk, path: str, fill: Callable[[Path], object]) -> object:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(28, "No space left on device")
        return written(self, path, fill)

    monkeypatch.setattr(on_disk.OnDisk, "write", write)
    (work,) = table_optimize.planned(table, ())
    with pytest.raises(OSError, match="No space"):
        table_optimize.carry_out(table, COLUMNS, work, (), statistics)
    assert count == 3
    assert {*Path(table.location).glob("*.parquet")} == before


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("VERSION => -1", "there is no version -1; the newest is 4"),
        ("VERSION => 5", "there is no version 5; the newest is 4"),
        ("VERSION => NULL", "transactions.x: VERSION => NULL is not the number of a version"),
        ("TIMESTAMP => NULL", "transactions.x: TIMESTAMP => NULL is not a time from year 1 to 9999"),
        ("TIMESTAMP => 'infinity'", "is not a time from year 1 to 9999"),
        ("TIMESTAMP => '290000-01-01'", "is not a time from year 1 to 9999"),
        ("TIMESTAMP => '0044-03-15 (BC)'", "is not a time from year 1 to 9999"),
    ],
)
def test_a_moment_that_is_none_is_one_line(cli: Cli, flow: Flow, feeds: str, moment: str, said: str) -> None:
    done = cli(flow.root, "query", f"--sql=FROM x AT ({moment})", FEEDS_PATH=feeds)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err


def test_times_with_and_without_a_zone_are_the_same_moment(cli: Cli, flow: Flow, feeds: str) -> None:
    """A time without one is UTC, whatever zone the machine is in."""
    log = flow.layout.output / "_delta_log"
    for version in range(5):
        lines = entry(log, version).read_text().splitlines()
        said = [json.loads(line) for line in lines]
        for one in said:
            if "commitInfo" in one:
                one["commitInfo"]["timestamp"] = 1_790_000_000_000 + version * 60_000  # 2026-09-21 14:13:20 UTC on
        entry(log, version).write_text("".join(f"{json.dumps(one)}\n" for one in said))
    for text, rows in (
        ("'2026-09-21 14:14:20'", 10),
        ("'2026-09-21 14:14:19.999'", 0),
        ("'2026-09-21 19:44:20+05:30'", 10),
        ("'2026-09-21 14:14:19.999999'", 0),
        ("'2026-09-21 09:15:20 America/Chicago'", 20),
        ("TIMESTAMP '2026-09-21 14:15:20'", 20),
        ("TIMESTAMPTZ '2026-09-21 16:15:20 Europe/Berlin'", 20),
    ):
        sql = f"--sql=SELECT count(*) AS n FROM x AT (TIMESTAMP => {text})"
        done = cli(flow.root, "query", "--format=json", sql, FEEDS_PATH=feeds, TZ="Asia/Tokyo")
        assert json.loads(done.out) == [{"n": rows}], text
    sql = "--sql=FROM x AT (TIMESTAMP => '2026-09-21 14:13:19')"
    assert "has no version of 2026-09-21 14:13:19 or before" in cli(flow.root, "query", sql, FEEDS_PATH=feeds).err


def test_a_start_is_told_what_to_type(flow: Flow) -> None:
    _hole(flow.layout.output / "_delta_log")
    sink = sink_of(flow)
    tools = Tools(cast(Hadoop, None), app_settings(flow.root).servers, fail_on_data_loss=True)
    with pytest.raises(ConfigError, match=r"its log cannot be read.*make reset"):
        sink.writer(flow, None, tools).prepare(flow.kind.columns)
