"""A Delta table grows to wider types by one commit: the same rows for every reader, and versions before stay."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from stream_app.errors import UnavailableError
from stream_app.sinks import table_widening
from stream_app.sinks.table_parts import PartWriter, by_value, kind_of
from stream_app.sinks.table_widening import widen
from stream_app.storage.tables.delta import Delta
from stream_app.storage.tables.delta_on_disk import DeltaOnDisk
from stream_app.storage.tables.delta_statistics import statistics
from stream_app.storage.tables.on_disk import OnDisk
from tests.tables import mark, new, part

NARROW = pa.schema(
    [
        ("number", pa.int32()),
        ("money", pa.decimal128(9, 2)),
        ("float", pa.float32()),
        ("more", pa.list_(pa.struct([("n", pa.int32())]))),
    ]
)
WIDE = pa.schema(
    [
        ("number", pa.int64()),
        ("money", pa.decimal128(20, 4)),
        ("float", pa.float64()),
        ("more", pa.list_(pa.struct([("n", pa.int64()), ("text", pa.string())]))),
    ]
)
ROWS = [{"number": n, "money": Decimal(n) / 4, "float": 0.1 * n, "more": [{"n": n}, None]} for n in range(6)]
ROWS.append({"number": None, "money": None, "float": None, "more": None})


@pytest.fixture(params=[DeltaOnDisk, Delta])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Delta:
    """Three batches of rows, as of a table on a disk and of one in a store."""
    made = new(tmp_path / "t", NARROW)
    for batch in range(3):
        made.commit(mark(batch), [part(made, batch, ROWS[batch::3], NARROW)])
    found: Delta = request.param(made.place)
    return found


def rows(table: Delta, version: int | None = None) -> list[dict[str, Any]]:
    found = pa.table(DeltaTable(table.location, version=version).scan().read_all()).to_pylist()
    return sorted(found, key=lambda row: -1 if row["number"] is None else row["number"])


def test_rows_stay_and_so_do_the_versions_before(table: Delta) -> None:
    before, kinds = rows(table), [kind_of(file) for file in table.live()]
    widen("transactions.x", table, table.as_stored(WIDE), statistics)
    assert table.columns == table.as_stored(WIDE)
    wide = [{**row, "more": row["more"] and [one and {**one, "text": None} for one in row["more"]]} for row in before]
    assert rows(table) == wide
    assert [one["float"] for one in rows(table)[2:4]] == [pytest.approx(0.1), pytest.approx(0.2)]
    assert rows(table, version=3) == before
    assert [kind_of(file) for file in table.live()] == kinds
    assert (table.written("q"), table.owner["query"]) == (2, "q")
    table.commit(mark(3), [part(table, 3, [{**ROWS[0], "number": 2**40}], WIDE)])
    for found in (
        polars.read_delta(table.location)["number"].to_list(),
        duckdb.read_parquet(DeltaTable(table.location).file_uris()).to_arrow_table()["number"].to_pylist(),
    ):
        assert sorted(found, key=str) == sorted([None, *range(6), 2**40], key=str)
    assert next(one for one in table.versions() if "widened" in one.says).number == 4


def test_a_filter_on_a_wider_decimal_finds_its_row(table: Delta) -> None:
    widen("transactions.x", table, table.as_stored(WIDE), statistics)
    assert pa.table(DeltaTable(table.location).scan(predicate="money = 1.25").read_all())["number"].to_pylist() == [5]


@pytest.mark.parametrize("column", ["number", "float", "money"])
def test_partitions_keep_their_rows(tmp_path: Path, column: str) -> None:
    table = DeltaOnDisk(OnDisk(tmp_path / "t"))
    table.create(NARROW, (column,), {"sink": "transactions.x", "query": "q"}, 168)
    in_files = pa.schema([one for one in NARROW if one.name != column])
    writer = PartWriter(table.place, "q", 0, in_files, statistics, by_value(column))
    table.commit(mark(0), [*writer.write(iter(pa.Table.from_pylist(ROWS, NARROW).to_batches()))])
    expected = pa.Table.from_pylist(ROWS, NARROW)[column].cast(WIDE.field(column).type).to_pylist()
    widen("transactions.x", table, table.as_stored(WIDE), statistics)
    assert sorted((row[column] for row in rows(table)), key=str) == sorted(expected, key=str)


def test_who_comes_between_loses_nothing(table: Delta, monkeypatch: pytest.MonkeyPatch) -> None:
    other, real, came = DeltaOnDisk(OnDisk(Path(table.location))), table_widening._rewritten, list[int]()

    def comes(*arguments: Any) -> Any:
        if not came:
            came.append(7)
            other.refresh()
            first = [file for file in other.live() if "part-0000000000" in file.path]
            assert other.rewrite([part(other, 9, ROWS[0::3], NARROW)], first)
            other.commit(mark(4), [part(other, 4, [{**ROWS[0], "number": 7}], NARROW)])
        return real(*arguments)

    monkeypatch.setattr(table_widening, "_rewritten", comes)
    assert table.live()
    table.commit(mark(3), [part(table, 3, [{**ROWS[0], "number": 6}], NARROW)])  # which delta-rs has not read
    before = [row["number"] for row in rows(table)]
    widen("transactions.x", table, table.as_stored(WIDE), statistics)
    assert [row["number"] for row in rows(table)] == [*before, 7]
    assert _unnamed(table) == []


def test_who_comes_always_is_named_and_nothing_is_left(table: Delta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(table), "widen", lambda *_: False)
    files = table.live()
    with pytest.raises(UnavailableError, match="changes while it is written anew"):
        widen("transactions.x", table, table.as_stored(WIDE), statistics)
    assert (table.live(), _unnamed(table)) == (files, [])


@pytest.mark.parametrize("is_in", [False, True])
def test_a_commit_that_fails_leaves_the_files_of_the_version_that_stands(
    table: Delta, is_in: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = rows(table), type(table).widen

    def fails(*arguments: Any) -> None:
        if is_in:
            real(*arguments)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(table), "widen", fails)
    with pytest.raises(OSError, match="No space"):
        widen("transactions.x", table, table.as_stored(WIDE), statistics)
    assert [row["number"] for row in rows(table)] == [row["number"] for row in before]
    assert (table.columns == table.as_stored(WIDE)) is is_in
    assert is_in or _unnamed(table) == []


def _unnamed(table: Delta) -> Sequence[str]:
    """Files of the folder that no version has."""
    return table.expired(0, orphans=True) and [
        path for path in table.expired(0, orphans=True) if path not in _named(table)
    ]


def _named(table: Delta) -> set[str]:
    return {file.path for version in table.versions() for file in table.live(version.number)}
