"""The planned times of bronze's records: pinned in its files, and kept through every merge."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.storage.planned import UNBOUNDED, Planned, merged, newest_kafka_ts, pinned

TIME = pa.timestamp("us", "UTC")
ANY = 2**63 - 1


def file(folder: Path, name: int, kafka_us: list[int], says: dict[bytes, bytes], group: int = 2) -> pq.FileMetaData:
    table = pa.table({"kafka_ts": pa.array(kafka_us, pa.int64()).view(TIME)}).replace_schema_metadata(says)
    pq.write_table(table, folder / f"{name}.parquet", row_group_size=group)
    return pq.read_metadata(folder / f"{name}.parquet")


def together(folder: Path, name: int, files: list[tuple[pq.FileMetaData, list[int]]]) -> pq.FileMetaData:
    """The file that a merge makes of those."""
    times = [time for _, kafka_us in files for time in kafka_us]
    return file(folder, name, times, dict(merged([metadata for metadata, _ in files])))


def bounds(metadata: pq.FileMetaData, number: int) -> list[int]:
    return list(Planned.of(metadata).of_rows(0, number).to_pylist())


BATCHES = st.lists(
    st.tuples(st.none() | st.integers(1, 3), st.lists(st.integers(0, 4000) | st.integers(-ANY, ANY), min_size=1)),
    min_size=1,
    max_size=5,
)


@given(BATCHES, st.integers(0, 5), st.integers(0, 30))
@pytest.mark.proves("A client's clock decides on its own records alone, except in a backlog", "quarantine")
def test_the_bound_of_every_record_is_the_same_however_its_file_was_merged(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[int | None, list[int]]], cut: int, first: int
) -> None:
    folder = tmp_path_factory.mktemp("planned")
    files = [(file(folder, i, us, pinned(ms) if ms else {}), us) for i, (ms, us) in enumerate(batches)]
    times = [time for _, us in files for time in us]
    expected = [min(time, ms * 1000 if ms else ANY) for ms, us in batches for time in us]
    apart = [bound for metadata, us in files for bound in bounds(metadata, len(us))]
    assert list(map(min, times, apart)) == expected
    halves = [half for half in (files[:cut], files[cut:]) if half]
    twice = [(together(folder, 90 + i, half), [t for _, us in half for t in us]) for i, half in enumerate(halves)]
    whole = together(folder, 99, twice)
    assert list(map(min, times, bounds(whole, len(times)))) == expected
    some = Planned.of(whole).of_rows(first, max(0, len(times) - first)).to_pylist()
    assert list(map(min, times[first:], some)) == expected[first:]
    spans = Planned.of(whole).spans()
    assert [time for start, end, time in spans for _ in range(start, end)] == bounds(whole, len(times))


def test_batches_without_a_record_after_their_plan_take_no_room(tmp_path: Path) -> None:
    calm = [(file(tmp_path, i, [i, i + 1], pinned(1)), [i, i + 1]) for i in range(9)]
    fast = (file(tmp_path, 10, [1001], pinned(1)), [1001])
    assert merged([metadata for metadata, _ in calm]) == {}
    assert merged([metadata for metadata, _ in [*calm, fast, *calm]]) == {
        b"planned": b"[[18, null], [1, 1], [18, null]]"
    }
    assert merged([fast[0], calm[0][0], fast[0]]) == {b"planned": b"[[1, 1], [2, null], [1, 1]]"}
    assert merged([fast[0], fast[0]]) == {b"planned": b"[[2, 1]]"}


def test_what_else_the_first_file_says_stays(tmp_path: Path) -> None:
    says = {b"query_id": b"q", b"follows_batch": b"-1", **pinned(5)}
    first = file(tmp_path, 0, [1], says)
    assert merged([first, file(tmp_path, 1, [1], {b"follows_batch": b"0"})]) == {
        b"query_id": b"q",
        b"follows_batch": b"-1",
    }


@pytest.mark.parametrize("far", [-(2**63), -62_135_596_800_000_001, 253_402_300_800_000_000, ANY])
def test_no_time_is_too_far_off_to_be_read(tmp_path: Path, far: int) -> None:
    """Older versions kept what no datetime holds."""
    metadata = file(tmp_path, 0, [0, far], pinned(7))
    assert newest_kafka_ts(metadata) == max(0, far)
    assert bounds(metadata, 2) == [7000, 7000]
    assert bounds(file(tmp_path, 1, [0, far], {}), 2) == [UNBOUNDED] * 2


def test_files_without_kafka_timestamps_tell_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1]}), tmp_path / "n.parquet")
    assert newest_kafka_ts(pq.read_metadata(tmp_path / "n.parquet")) is None
    pq.write_table(pa.table({"kafka_ts": pa.array([1]).view(TIME)}), tmp_path / "n.parquet", write_statistics=False)
    assert newest_kafka_ts(pq.read_metadata(tmp_path / "n.parquet")) is None
