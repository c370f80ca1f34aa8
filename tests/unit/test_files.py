"""File names: a name says its batches exactly, and the standing files hold each batch once."""

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.feeds.parts import IDENTIFIER
from stream_app.storage.batch_files import BatchFile, batch_file, batch_files, data_paths, parse, standing

FOLDER = Path("folder")
IDS = st.integers(0, 10**12)
TIMES = st.integers(0, 253_402_300_799_999)  # to the end of the year 9999


def micro(batch: int) -> BatchFile:
    return batch_file(FOLDER, "silver", "parquet", batch * 1000, batch)


def compacted(first: BatchFile, last: BatchFile) -> BatchFile:
    return batch_file(FOLDER, "silver", "parquet", first.first * 1000, first.first, last.last)


def test_names_are_as_the_design_says() -> None:
    time_ms = int(datetime(2026, 11, 21, 1, 20, 30, 999_000, tzinfo=UTC).timestamp() * 1000)
    one = batch_file(FOLDER, "silver", "parquet", time_ms, 42)
    several = batch_file(FOLDER, "raw_csv", "csv", time_ms, 0, 119)
    assert one.path == FOLDER / "silver_20261121_012030_0000000042.parquet"
    assert several.path == FOLDER / "raw_csv_20261121_012030_0000000000-0000000119.csv"


@given(st.sampled_from(["bronze", "raw_csv"]) | st.from_regex(IDENTIFIER, fullmatch=True), TIMES, IDS, st.none() | IDS)
def test_a_name_round_trips(layer: str, time_ms: int, first: int, length: int | None) -> None:
    last = None if length is None else first + length
    made = batch_file(FOLDER, layer, "parquet", time_ms, first, last)
    assert parse(made.path, layer) == made
    assert made.is_compacted == (last is not None)
    assert timedelta() <= datetime.fromtimestamp(time_ms / 1000, UTC) - made.time < timedelta(seconds=1)


@given(IDS, IDS)
def test_names_of_one_second_sort_as_their_batches_do(one: int, other: int) -> None:
    first, second = sorted((one % 10**10, other % 10**10))
    assert (
        batch_file(FOLDER, "gold", "parquet", 0, first).path.name
        <= batch_file(FOLDER, "gold", "parquet", 0, second).path.name
    )


@given(
    st.text(max_size=60) | st.from_regex(r"silver_[0-9]{8}_[0-9]{6}_[0-9]{10}(-[0-9]{10})?\.parquet", fullmatch=True)
)
def test_any_name_parses_or_is_not_ours(name: str) -> None:
    path = FOLDER / name.replace("/", "_").replace("\0", "_")
    file = parse(path, "silver")
    assert file is None or file.path == path


def test_a_name_of_another_layer_is_not_ours() -> None:
    assert parse(FOLDER / "silver_20261121_012030_0000000042.parquet", "gold") is None
    assert parse(FOLDER / "csv_20261121_012030_0000000042.csv", "raw_csv") is None


def test_readers_see_no_name_with_an_underscore_or_a_dot(tmp_path: Path) -> None:
    shown = micro(3).path.name
    for name in (shown, f".{shown}.crc", "_owner.json", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "_staging").mkdir()
    assert [path.name for path in data_paths(tmp_path)] == [shown]
    assert [file.first for file in batch_files(tmp_path, "silver")] == [3]
    assert data_paths(tmp_path / "none") == []


@given(st.data(), st.sets(st.integers(0, 60), min_size=1, max_size=30), st.integers(0, 4))
def test_standing_files_hold_every_batch_exactly_once(data: st.DataObject, batches: set[int], merges: int) -> None:
    """Merge ranges, any number of times, die after any part of the deletions: what stands is the last state."""
    current = [micro(batch) for batch in sorted(batches)]
    on_disk = set(current)
    for _ in range(merges):
        start = data.draw(st.integers(0, len(current) - 1))
        stop = data.draw(st.integers(start + 1, len(current)))
        merged = compacted(current[start], current[stop - 1])
        on_disk -= set(data.draw(st.lists(st.sampled_from(current[start:stop]), unique=True)))
        on_disk |= {merged}
        current[start:stop] = [merged]
    assert standing(data.draw(st.permutations(sorted(on_disk)))) == current
    after, up_to = data.draw(st.integers(-1, 61)), data.draw(st.integers(0, 61) | st.just(math.inf))
    with tempfile.TemporaryDirectory() as folder:
        for file in on_disk:
            (Path(folder) / file.path.name).touch()
        found = standing(batch_files(Path(folder), "silver", after, up_to))
    wanted = [file.path.name for file in current if file.last > after and file.first <= up_to]
    assert [file.path.name for file in found] == wanted
    for batch in batches:
        assert sum(file.first <= batch <= file.last for file in standing(on_disk)) == 1


class Merging:
    """A folder of files in which, while its names are listed, files are merged: by `merges`, one during each listing.

    Retention merges a batch at most twice in quick succession: micro-batch files, and then the merged ones.

    A name that goes before the listing comes to it is not listed, nor one that comes while it runs: as readdir may.
    """

    def __init__(self, folder: Path, merges: list[tuple[int, int, int]], shuffle: Random) -> None:
        self._folder, self._merges, self._shuffle = folder, merges, shuffle

    @contextmanager
    def scandir(self, folder: Path) -> Iterator[Iterator[SimpleNamespace]]:
        """As os.scandir."""
        names = sorted(path.name for path in folder.iterdir())
        self._shuffle.shuffle(names)
        yield self._listed(names)

    def _listed(self, names: list[str]) -> Iterator[SimpleNamespace]:
        merge = self._merges.pop() if self._merges else None
        for place, name in enumerate(names):
            if merge and place == merge[0] % len(names):
                self._merge(*merge[1:])
            if (self._folder / name).exists():
                yield SimpleNamespace(name=name)

    def _merge(self, first: int, count: int) -> None:
        files = standing(parsed for path in self._folder.iterdir() if (parsed := parse(path, "silver")))
        files = files[first % len(files) :][: count + 1]
        if len(files) > 1:
            batch_file(self._folder, "silver", "parquet", 0, files[0].first, files[-1].last).path.touch()
            for file in files:
                file.path.unlink()


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(1, 12)), max_size=2),
    st.randoms(use_true_random=False),
)
@pytest.mark.proves("Readers see whole files")
def test_no_batch_is_missing_from_a_list_that_was_made_during_a_merge(
    batches: int, merges: list[tuple[int, int, int]], shuffle: Random
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        for batch in range(batches):
            batch_file(folder, "silver", "parquet", 0, batch).path.touch()
        patch.setattr(os, "scandir", Merging(folder, list(merges), shuffle).scandir)
        found = standing(batch_files(folder, "silver"))
        assert [batch for file in found for batch in range(file.first, file.last + 1)] == list(range(batches))


def test_a_folder_that_has_not_changed_for_long_is_listed_once_and_one_that_is_pruned_does_not_hold_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in range(1000):
        batch_file(tmp_path, "silver", "parquet", 0, batch).path.touch()
    real, listings = os.scandir, []

    def pruned(folder: Path) -> Any:
        listings.append(folder)
        batch_files_left[0].path.unlink()
        del batch_files_left[0]
        return real(folder)

    batch_files_left = batch_files(tmp_path, "silver")
    monkeypatch.setattr(os, "scandir", pruned)
    assert batch_files(tmp_path, "silver") == batch_files_left
    assert 1 < len(listings) < 100
    monkeypatch.setattr(os, "scandir", lambda folder: listings.append(folder) or real(folder))  # type: ignore[func-returns-value]
    os.utime(tmp_path, (0, 0))
    listings.clear()
    assert batch_files(tmp_path, "silver") == batch_files_left
    assert len(listings) == 1
