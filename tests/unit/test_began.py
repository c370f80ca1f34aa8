"""Silver's files say which rows were one batch and its clock, however often they are merged."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.storage import began
from stream_app.storage.began import Began


def file(folder: Path, name: str, rows: int, says: dict[bytes, bytes]) -> pq.FileMetaData:
    pq.write_table(pa.table({"n": range(rows)}).replace_schema_metadata(says), folder / name)
    return pq.read_metadata(folder / name)


BATCHES = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9)), min_size=2, max_size=6)


@given(BATCHES, st.integers(1, 5))
def test_a_merged_file_says_what_its_parts_said(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[int, int]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("began")
    files = [file(folder, f"{i}", rows, began.pinned(i, clock)) for i, (rows, clock) in enumerate(batches)]
    halves = [half for half in (files[:cut], files[cut:]) if half]
    rows = [sum(one.num_rows for one in half) for half in halves]
    merged = [file(folder, f"half {i}", rows[i], began.merged(half)) for i, half in enumerate(halves)]
    whole = file(folder, "whole", sum(rows), began.merged(merged))
    assert began.of(whole) == [Began(i, rows, clock) for i, (rows, clock) in enumerate(batches)]


def test_parts_of_one_batch_are_one_and_files_that_say_nothing_stay_apart(tmp_path: Path) -> None:
    parts = [file(tmp_path, "a", 2, began.pinned(7, 5)), file(tmp_path, "b", 3, began.pinned(7, 5))]
    assert began.of(file(tmp_path, "ab", 5, began.merged(parts))) == [Began(7, 5, 5)]
    old = [file(tmp_path, "c", 1, {}), file(tmp_path, "d", 2, {})]
    assert began.merged(old) == {}
    mixed = file(tmp_path, "cda", 5, began.merged([*old, parts[0]]))
    assert began.of(mixed) == [Began(None, 1, None), Began(None, 2, None), Began(7, 2, 5)]


def test_of_very_many_batches_neighbours_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(began, "_MOST", 2)
    parts = [file(tmp_path, f"{i}", 1, began.pinned(i, i)) for i in range(3)]
    assert began.of(file(tmp_path, "all", 3, began.merged(parts))) == [Began(None, 2, 0), Began(2, 1, 2)]
