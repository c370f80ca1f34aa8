"""Nobody fools the audit with a Delta table: commits of somebody else's, and files that are not as its log says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from stream_app.ops.audit.report import Verdict
from stream_app.sinks.protocol import sink_of
from tests import tables
from tests.outputs import Output
from tests.unit.audited import FEED, found, lines, made, with_tables

WITH_A_TABLE = f"""{FEED}
[sinks.kept]
of = "silver"
to = "delta"
"""
Change = Callable[[DeltaTable], object]


@pytest.fixture(scope="module")
def with_a_table(tmp_path_factory: pytest.TempPathFactory) -> Output:
    output = made(WITH_A_TABLE, "main", tmp_path_factory.mktemp("with_a_table"))
    tables.follow(output.flows["kept"], output.flows["silver"].files())
    return output


@pytest.fixture
def kept(with_a_table: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    """An output in order that has a Delta table, for a test to change."""
    copied = with_a_table.copied(tmp_path)
    with_tables(copied, monkeypatch)
    return copied


def table_of(output: Output) -> DeltaTable:
    flow = output.flows["kept"]
    return DeltaTable(sink_of(flow).place(flow))


def doubled(table: DeltaTable) -> None:
    rows = pa.table(table.scan(columns=[field.name for field in table.schema().fields]).read_all())
    write_deltalake(table, rows.slice(0, 1), mode="append")


def file_of(table: DeltaTable) -> Path:
    return Path(sorted(table.file_uris())[0].removeprefix("file://"))


def test_a_table_in_order_is_right(kept: Output) -> None:
    report = found(kept)
    assert (report.wrong, report.not_audited, report.verdict) == ([], [], Verdict.RIGHT)
    assert report.counts["kept"] == 13


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda table: table.update({"last": "'x'"}, predicate="id = 'r1'"), "kept is not silver: 2, (r1, "),
        (lambda table: table.delete("id = 'r1'"), "kept is not silver: 1, (r1, "),
        (doubled, "kept is not silver: 1, "),
        (lambda table: table.delete(), "kept is not silver: 13, "),
        (lambda table: file_of(table).write_bytes(b"PAR1"), "cannot be read: "),
        (lambda table: file_of(table).unlink(), "is missing, and the table's log names it"),
    ],
    ids=["a cell", "a row dropped", "a row doubled", "all rows dropped", "a file cut short", "a file deleted"],
)
def test_a_tamper_of_a_table_is_named(kept: Output, change: Change, expected: str) -> None:
    change(table_of(kept))
    report = found(kept)
    assert report.verdict is Verdict.WRONG
    assert expected in lines(report)
