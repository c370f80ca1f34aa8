"""What silver remembers of the records it holds: each once, whatever dies on the way, at a cost that stays."""

import shutil
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from stream_app.flows.batch import Batch
from stream_app.sinks.dedupe.index import ENTRY, Seen, entries
from stream_app.storage import batch_files as files_module
from stream_app.storage.batch_files import batch_files, standing
from stream_app.storage.offsets import LayerOffset

WITHIN = 10
Rows = Sequence[tuple[int, int]]
"""Rows as (key, how far its clock is ahead of the batch's start)."""

batches = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), max_size=12), max_size=14)


def take(seen: Seen, number: int, since: int, rows: Rows) -> list[int]:
    entries = np.array([(key.to_bytes(16, "little"), since + ahead) for key, ahead in rows], ENTRY)
    return [
        int(at)
        for at in seen.take(Batch(number, number * 1000, 0, 0, LayerOffset(), LayerOffset(), ()), since, entries)
    ]


def starts(history: Sequence[Rows]) -> list[int]:
    """The clock at the start of each batch: the newest of the rows before, as sources/layer_reader.py has it."""
    found = [0]
    for rows in history:
        found.append(max([found[-1], *(found[-1] + ahead for _, ahead in rows)]))
    return found


def expected(history: Sequence[Rows]) -> list[list[int]]:
    """The same, one row at a time."""
    kept: dict[int, int] = {}
    found = []
    for since, rows in zip(starts(history), history, strict=False):
        before, own = dict(kept), list[int]()
        for at, (key, ahead) in enumerate(rows):
            is_repeat = key in before and before[key] >= since - WITHIN
            if not is_repeat and key not in {rows[other][0] for other in own}:
                own.append(at)
                kept[key] = since + ahead
        found.append(own)
    return found


def new(folder: Path) -> Seen:
    return Seen(folder / "seen", timedelta(microseconds=WITHIN))


@given(batches, st.data())
@pytest.mark.proves("Repeats are dropped")
def test_each_key_is_taken_once_within_the_span_whatever_dies(history: Sequence[Rows], data: st.DataObject) -> None:
    """After each batch the process may go on, or die and run that batch again; files that deletion missed come back."""
    folder = Path(tempfile.mkdtemp())
    try:
        seen = new(folder)
        for number, (since, rows, right) in enumerate(zip(starts(history), history, expected(history), strict=False)):
            before = {path: path.read_bytes() for path in (folder / "seen").glob("*")}
            assert take(seen, number, since, rows) == right
            if data.draw(st.booleans(), "dies"):
                for path, content in before.items():
                    if data.draw(st.booleans(), "deletion was missed"):
                        path.write_bytes(content)
                seen = new(folder)
            if data.draw(st.booleans(), "runs again"):
                assert take(seen, number, since, rows) == right
    finally:
        shutil.rmtree(folder)


def test_the_files_are_few_and_what_is_too_old_goes(tmp_path: Path) -> None:
    seen = new(tmp_path)
    for number in range(500):
        take(seen, number, number, [(number * 3 + n, 0) for n in range(3)])
        files = standing(batch_files(tmp_path / "seen", "seen"))
        assert len(files) <= 8
        assert seen.rows <= 3 * 2 * (WITHIN + 2)
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == [file.path.name for file in files]
    assert seen.bytes == 24 * seen.rows


def test_a_batch_without_rows_leaves_no_file(tmp_path: Path) -> None:
    seen = new(tmp_path)
    assert take(seen, 0, 0, []) == []
    assert take(seen, 1, 0, [(1, 0)]) == [0]
    assert take(seen, 2, 0, [(1, 0)]) == []
    assert len(list((tmp_path / "seen").iterdir())) == 1


@pytest.mark.proves("A power cut loses nothing of bronze, quarantine, silver and the CSV", "silver")
def test_what_was_seen_is_on_the_disk_before_the_batch_s_rows_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes before it has its name, and its name."""
    found = list[tuple[str, bool]]()

    def note(path: Path) -> None:
        is_there = any(path.glob("seen_*")) if path.is_dir() else path.stat().st_size > 0
        found.append((path.name, is_there))

    monkeypatch.setattr(files_module, "sync", note)
    take(new(tmp_path), 0, 0, [(1, 0)])
    name = next((tmp_path / "seen").iterdir()).name
    assert found == [(f"_{name}", True), ("seen", True)]


def test_a_key_of_one_column_is_on_disk_as_ever() -> None:
    found = entries([pa.array(["t1", "t2"])], pa.array([5, 6]))
    digests = [blake2b(text, digest_size=16).digest() for text in (b"t1", b"t2")]
    assert found.tolist() == [(digests[0], 5), (digests[1], 6)]


def test_several_columns_are_one_key_and_where_one_ends_matters() -> None:
    first, second = pa.array(["a", "ab", "a", "1"]), pa.array(["bc", "c", "bc", "7"])
    found = entries([first, second], pa.array([0] * 4))["key"].tolist()
    assert found[0] == found[2]
    assert len({*found}) == 3
    assert entries([pa.array([1]), pa.array([7])], pa.array([0]))["key"].tolist() == found[3:]


def test_without_a_key_every_row_is_kept_and_nothing_is_remembered(tmp_path: Path) -> None:
    seen = Seen(tmp_path / "seen", None)
    batch = Batch(0, 0, 0, 0, LayerOffset(), LayerOffset(), ())
    for _ in range(2):
        assert seen.take(batch, 0, entries([], pa.array([0, 0, 0]))).tolist() == [0, 1, 2]
    assert not (tmp_path / "seen").exists()
    assert (seen.rows, seen.bytes) == (0, 0)


def test_bytes_are_keys_too() -> None:
    """Also what is no text: silver's batch must not fail by a key's type."""
    keys = pa.array([b"\xff\x00", b"\xff\x01", None, b"\xff\x00"], pa.binary())
    found = entries([keys], pa.array([0] * 4))["key"]
    assert found[0] == found[3]
    assert len({*found.tolist()}) == 3
