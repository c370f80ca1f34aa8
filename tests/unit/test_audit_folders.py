"""The audit looks at folders as their readers do: at every file that is there, and at each file's own columns."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_app.errors import StreamAppError
from stream_app.flows import chain, unread
from stream_app.ops.audit.report import Report, Verdict
from stream_app.storage.batch_files import REPLAY, batch_file
from tests.outputs import Output
from tests.unit.audited import edit, found, lines

FOLDERS = ("bronze", "silver", "quarantine", "raw_csv", "csv", "due", "repeats", "own", "late_csv", "late_postgres_end")


def any_file(output: Output, folder: str) -> Path:
    return min(path for path in (output.root / "main" / folder).rglob("*_*_*_*.*") if path.is_file())


def is_wrong(output: Output, *expected: str) -> Report:
    report = found(output)
    assert [what for what in expected if what not in lines(report)] == [], lines(report)
    assert report.verdict is Verdict.WRONG
    return report


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.proves("Files that people touch are noticed")
def test_a_file_that_is_not_the_flows_is_named(output: Output, folder: str) -> None:
    """A copy under a name of its own, in a folder of its own, of a batch to come, and of one that is there."""
    path = any_file(output, folder)
    file = "_".join(path.name.split("_")[:-3])
    other, inner = path.with_name(f"copy{path.suffix}"), path.with_name("old") / path.name
    future, same = (path.with_name(f"{file}_20260101_000000_{n}{path.suffix}") for n in ("0000009999", path.stem[-10:]))
    inner.parent.mkdir()
    for copy in (other, inner, future, same):
        shutil.copy(path, copy)
    is_wrong(
        output,
        *(f"{copy} was not written by main." for copy in (other, inner.parent, future)),
        "are of one batch; move out what main.",
    )


def test_folders_of_a_lake_hold_their_own_dates(output: Output) -> None:
    (folder,) = output.flows["own"].data_folders
    folder.rename(folder.with_name("event_date=2026-11-26"))
    (output.flows["own"].layout.output / "other.parquet").touch()
    is_wrong(output, "own has rows in the folder of another date: 13, (event_date=2026-11-26, 2026-11-27)", "other.par")


def test_the_shared_folder_of_a_lake_holds_any_date(output: Output) -> None:
    (folder,) = output.flows["own"].data_folders
    folder.rename(folder.with_name("event_date=0001-01-01"))
    assert found(output).wrong == []


@pytest.mark.parametrize("sink", ["bronze", "silver", "quarantine", "raw_csv", "csv", "due", "own", "postgres_end"])
def test_a_checkpoint_that_has_gone_is_no_output_that_is_right(output: Output, sink: str) -> None:
    flow = output.flows[sink]
    (flow.layout.output).mkdir(exist_ok=True)
    (flow.layout.output / "_owner.json").write_text("{}")
    shutil.rmtree(flow.checkpoint.path)
    is_wrong(output, f"reset it with: make reset FEED=main SINK={sink}")


@pytest.mark.parametrize("sink", ["bronze", "silver", "csv"])
def test_batches_without_their_commits_are_not_audited(output: Output, sink: str) -> None:
    """One may be missing, of the batch that was running; a power cut takes more."""
    commits = sorted((output.flows[sink].checkpoint.path / "commits").iterdir(), key=lambda path: int(path.name))
    commits[-1].unlink()
    assert (found(output).not_audited, found(output).wrong) == ([], [])
    for commit in commits:
        commit.unlink(missing_ok=True)
    report = found(output)
    last = int(commits[-1].name) - 1
    assert f"{sink}: its checkpoint has no commit of batches 0 to {last}" in report.not_audited, lines(report)


def without_a_column(path: Path) -> None:
    table = pq.ParquetFile(path).read()
    pq.write_table(table.drop_columns([table.column_names[-1]]), path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "lacks": without_a_column,
    "cannot be read": lambda path: os.truncate(path, 100),
    "cannot be read:": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("folder", ["csv", "repeats", "own", "late_csv", "late_postgres_end"])
def test_a_damaged_file_is_named_and_the_others_are_looked_at(output: Output, folder: str, damage: str) -> None:
    path = any_file(output, folder)
    DAMAGES[damage](path)
    edit(output.paths("due")[0], lambda rows: [row | {"missing": 9} for row in rows])
    is_wrong(output, f"{path} {damage}", "due is not what silver's final windows are")


def test_damaged_pages_are_named(output: Output) -> None:
    path = output.paths("csv")[0]
    whole = path.read_bytes()
    pages = len(whole) - 12 - int.from_bytes(whole[-8:-4], "little")
    path.write_bytes(whole[:4] + bytes(pages) + whole[4 + pages :])
    is_wrong(output, f"{path.parent} cannot be read: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"first,last", b"last,first"),
        (b"id,", b"i,"),
        (b"id,ts,order,first,last\r\n", b""),
        (b"id,", b"\xef\xbb\xbfid,"),
    ],
)
def test_the_header_of_the_csv_is_part_of_it(output: Output, old: bytes, new: bytes) -> None:
    path = output.paths("raw_csv")[0]
    assert path.read_bytes().count(old)
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    is_wrong(output, f"{path} does not begin with its header")


@pytest.mark.parametrize("added", [b'"', b"a,b\r\n", b"\0" * 99, b"id,ts,order,first,last\r\n"])
def test_what_is_no_record_of_the_csv_is_wrong(output: Output, added: bytes) -> None:
    path = output.paths("raw_csv")[0]
    path.write_bytes(path.read_bytes() + added)
    is_wrong(output, "csv")


def test_the_ledger_holds_records_of_bronze_alone_and_once(output: Output) -> None:
    silver = output.flows["silver"]
    rows = pq.read_table(output.paths("silver")[0])
    foreign = pa.Table.from_pylist([row | {"offset": 999} for row in rows.slice(0, 1).to_pylist()], rows.schema)
    silver.layout.replay.mkdir()
    pq.write_table(pa.concat_tables([foreign, foreign]), batch_file(silver.layout.replay, REPLAY, "parquet", 0, 0).path)
    newest = max((silver.checkpoint.path / "offsets").iterdir(), key=lambda path: int(path.name))
    version, meta, offsets = newest.read_text().splitlines()
    newest.write_text("\n".join((version, meta, offsets.replace('"replay": -1', '"replay": 0'))))
    is_wrong(output, "doubled in ledger: 1, (0, 999)", "in ledger, not in bronze: 1, (0, 999)")


def test_state_files_that_we_have_not_written_are_one_line(output: Output) -> None:
    bronze, silver = output.flows["bronze"], output.flows["silver"]
    (bronze.checkpoint.path / "let_go").write_text("x")
    (bronze.checkpoint.path / "unread.jsonl").write_text('{"x": 1}')
    (silver.checkpoint.path / "last_file").write_bytes(b"\xff")
    with pytest.raises(StreamAppError, match=r"let_go cannot be read; reset its sink"):
        chain.gone(bronze)
    with pytest.raises(StreamAppError, match=r"unread.jsonl cannot be read; reset its sink"):
        unread.read(bronze)
    assert chain.last_file(silver) is None
    offsets = silver.checkpoint.path / "offsets"
    newest = max(offsets.iterdir(), key=lambda path: int(path.name))
    for text in ("v1\n{}\n{}", "v1\n{}", 'v1\n{"batchTimestampMs": 1, "batchWatermarkMs": 0}\n1', "v1\nx\n{}"):
        newest.write_text(text)
        with pytest.raises(StreamAppError, match=rf"{newest} cannot be read; reset its sink"):
            silver.checkpoint.last_committed()
    newest.unlink()
    with pytest.raises(StreamAppError, match=rf"{newest} cannot be read; reset its sink"):
        silver.checkpoint.last_committed()


def test_metadata_that_we_have_not_written_tells_nothing(output: Output) -> None:
    path = output.paths("silver")[1]
    table = pq.read_table(path)
    says = {**(table.schema.metadata or {}), b"began": b"x", b"follows_batch": b"x"}
    pq.write_table(table.replace_schema_metadata(says), path)
    assert found(output).wrong == []
