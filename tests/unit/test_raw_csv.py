"""The CSV mirror: every value round-trips, and nothing in it can run as a formula."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.feeds import schema, types
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.layers.registry import datasets
from stream_app.ops import views
from stream_app.sinks.csv import CsvSink, header, lines
from stream_app.storage import row_counts
from stream_app.storage.lines import LINE, Csv
from stream_app.storage.row_counts import count_rows
from tests.examples import examples
from tests.helpers import Row, flow_of, silver_row, write_layer

FORMULA_STARTS = "=+-@\t\r\n"
NASTY = st.text(alphabet=st.sampled_from("=+-@\"',;|\t\r\n \\a1é\u2028漢😀#\ufeff"), min_size=1, max_size=12)
TEXTS = st.one_of(NASTY, st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))


def as_lines(feed: Feed, rows: Sequence[Row]) -> pa.RecordBatch:
    columns = to_arrow_schema(schema.silver(feed), timezone="UTC")
    reading = CsvSink(of="silver", to="csv").reading(datasets(feed)["silver"])
    return reading.function(pa.RecordBatch.from_pylist(list(rows), columns))


def csv_bytes(feed: Feed, rows: Sequence[Row]) -> bytes:
    return header(datasets(feed)["silver"]) + "".join(as_lines(feed, rows)[LINE].to_pylist()).encode()


def harmless(text: str) -> str:
    """What a cell of the mirror holds for a text of silver."""
    return f"'{text}" if text[0] in FORMULA_STARTS else text


def expected_cells(rows: Sequence[Row], feed: Feed) -> list[dict[str, str]]:
    def cell(value: object) -> str:
        if isinstance(value, datetime):
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return harmless(value) if isinstance(value, str) else str(value)

    return [{name: cell(row[name]) for name in feed.fields} for row in rows]


@examples(60, *HealthCheck)
@given(texts=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=60))
@example(texts=[(start + "1+1", 'say ""', "'") for start in FORMULA_STARTS])
@example(texts=[("'quoted'", '"', 'a"b,c'), ("''", "\\", '\\"'), (";", "|", "\t|;,")])
def test_any_text_round_trips_through_the_csv(feed: Feed, tmp_path: Path, texts: list[tuple[str, str, str]]) -> None:
    """Python's csv module and the DuckDB view read what silver holds, but for the apostrophe before a formula."""
    rows = [
        silver_row(n, n / 7, merchant=a, city=b, user_id=c, lat=n / 3, amount=Decimal(n).scaleb(-2))
        for n, (a, b, c) in enumerate(texts)
    ]
    data = csv_bytes(feed, rows).decode()
    assert list(csv.DictReader(io.StringIO(data, newline=""), strict=True)) == expected_cells(rows, feed)

    flow, path = csv_file(feed, tmp_path, rows)
    found = views.connect([flow]).sql("SELECT * FROM raw_csv").to_arrow_table().to_pylist()
    texts_made_harmless = [
        {name: harmless(row[name]) if isinstance(row[name], str) else row[name] for name in feed.fields} for row in rows
    ]
    assert sorted(found, key=lambda row: row["event_time"]) == texts_made_harmless
    count_rows.cache_clear()
    assert count_rows(path) == len(rows)


def test_decimals_are_written_in_digits() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "share": pa.array([Decimal("1E-38"), Decimal(0), None], pa.decimal128(38, 38)),
            "fine": pa.array([[Decimal("1E-10")], [Decimal("-12.5")], None], pa.list_(pa.decimal128(20, 10))),
        }
    )
    found = lines(batch, {"share": types.decimal(38, 38), "fine": types.array(types.decimal(20, 10))})
    assert found[LINE].to_pylist() == [
        f"0.{'0' * 37}1,[0.0000000001]\r\n",
        f"0.{'0' * 38},[-12.5000000000]\r\n",
        ",\r\n",
    ]


def csv_file(feed: Feed, folder: Path, rows: Sequence[Row]) -> tuple[Flow, Path]:
    """The mirror with one file of those rows, of which silver has taken the batch."""
    flow = flow_of(feed, "raw_csv", folder)
    silver = write_layer(flow_of(feed, "silver", folder), 0, [])
    flow.layout.output.mkdir(parents=True, exist_ok=True)
    path = flow.layout.output / silver.path.name.replace("silver", "raw_csv").replace("parquet", "csv")
    path.write_bytes(csv_bytes(feed, rows))
    return flow, path


def lengths(flow: Flow) -> list[tuple[int]]:
    return views.connect([flow]).sql("SELECT length(merchant) FROM raw_csv ORDER BY 1").fetchall()


def test_a_line_that_is_longer_than_any_buffer_by_default_is_read(feed: Feed, tmp_path: Path) -> None:
    texts = ["a", "m" * 70_000_000, 'b"\r\n']
    flow, path = csv_file(feed, tmp_path, [silver_row(n, merchant=text) for n, text in enumerate(texts)])
    assert count_rows(path) == 3
    assert lengths(flow) == sorted((len(text),) for text in texts)


def test_a_file_larger_than_the_buffer_is_read_whole(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its long texts span buffers, and look like records to who begins in the middle of one."""
    for limit in ("_SMALLEST_BUFFER", "_LARGEST_BUFFER"):
        monkeypatch.setattr(row_counts, limit, 6 << 20)
    record = csv_bytes(feed, [silver_row(0, merchant='"')]).decode().partition("\r\n")[2]
    rows = [silver_row(n, merchant=record * (40_000 if n % 500 == 0 else 1)) for n in range(2000)]
    flow, path = csv_file(feed, tmp_path, rows)
    assert path.stat().st_size > 12 << 20
    assert count_rows(path) == len(rows)
    assert lengths(flow) == sorted((len(str(row["merchant"])),) for row in rows)


def test_no_cell_can_run_as_a_formula(feed: Feed) -> None:
    rows = [silver_row(n, merchant=f"{start}cmd|' /C calc'!A0") for n, start in enumerate(FORMULA_STARTS)]
    for cells in csv.reader(io.StringIO(csv_bytes(feed, rows).decode(), newline="")):
        assert not [cell for cell in cells if cell and cell[0] in FORMULA_STARTS]


def test_a_slice_of_lines_is_written_as_it_is(feed: Feed, tmp_path: Path) -> None:
    """The text is taken out of Arrow's memory as a whole, which a slice has only a part of."""
    batch = as_lines(feed, [silver_row(n, merchant="é" * n) for n in range(1, 9)])
    assert (
        Csv().part_writer(batch.schema)(iter([batch.slice(2, 3), batch.slice(0, 0), batch.slice(7)]), tmp_path / "part")
        == 4
    )
    expected = "".join(batch[LINE].take(pa.array([2, 3, 4, 7])).to_pylist())
    assert (tmp_path / "part").read_bytes() == expected.encode()


def test_nothing_stands_for_null_and_cells_stay_in_their_columns(feed: Feed) -> None:
    rows = [silver_row(0) | dict.fromkeys(feed.fields), silver_row(1, lat=None, amount=None)]
    empty, second = csv.reader(io.StringIO(csv_bytes(feed, rows).decode().partition("\r\n")[2], newline=""))
    assert empty == [""] * len(feed.fields)
    assert [name for name, cell in zip(feed.fields, second, strict=True) if not cell] == ["amount", "lat"]
