"""make query and make show: a view per feed and layer, with the right columns whether or not there are files."""

import csv
import json
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql.pandas.types import to_arrow_schema

from stream_app.feeds import schema
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import load_feeds
from stream_app.flows.flow import Flow
from stream_app.ops import views
from stream_app.settings import PROJECT
from stream_app.sinks.registry import flows
from stream_app.storage.batch_files import batch_file
from stream_app.storage.row_counts import count_rows
from tests.examples import examples
from tests.helpers import bronze_row, flow_of, silver_row, value, write_file, write_layer
from tests.unit.conftest import Cli

COORDINATES = {
    "kafka_ts": "TIMESTAMP WITH TIME ZONE",
    "topic": "VARCHAR",
    "partition": "INTEGER",
    "offset": "BIGINT",
}
TEXTS = ("currency", "status", "city", "country")
FIELDS = {
    "txn_id": "VARCHAR",
    "event_time": "TIMESTAMP WITH TIME ZONE",
    **dict.fromkeys(("user_id", "card_id", "merchant", "category"), "VARCHAR"),
    "amount": "DECIMAL(18,2)",
    **dict.fromkeys(TEXTS, "VARCHAR"),
    **dict.fromkeys(("lat", "lon"), "DOUBLE"),
}
EXPECTED = {
    "bronze": {"key": "VARCHAR", "value": "BLOB", "headers": 'STRUCT("key" VARCHAR, "value" BLOB)[]', **COORDINATES},
    "quarantine": {
        "key": "VARCHAR",
        "value": "BLOB",
        "value_text": "VARCHAR",
        "reasons": "VARCHAR[]",
        **COORDINATES,
    },
    "silver": FIELDS | COORDINATES,
    "gold": {
        "window_start": "TIMESTAMP WITH TIME ZONE",
        "window_end": "TIMESTAMP WITH TIME ZONE",
        "card_id": "VARCHAR",
        "txn_count": "BIGINT",
        "sum_amount": "DECIMAL(28,2)",
        "avg_amount": "DECIMAL(22,6)",
        "max_amount": "DECIMAL(18,2)",
    },
    "raw_csv": FIELDS,
}


def columns(connection: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    relation = connection.sql(f"SELECT * FROM {view}")
    return dict(zip(relation.columns, map(str, relation.types), strict=True))


@pytest.fixture
def made(feed: Feed, tmp_path: Path) -> tuple[Flow, ...]:
    return flows([feed], tmp_path)


@pytest.mark.parametrize("layer", EXPECTED)
def test_an_empty_layer_has_its_columns_and_types(made: tuple[Flow, ...], layer: str) -> None:
    connection = views.connect(made)
    assert columns(connection, f"transactions.{layer}") == EXPECTED[layer]
    assert connection.sql(f"SELECT count(*) FROM {layer}").fetchone() == (0,)


def test_a_layer_with_files_has_the_same_columns_and_types(made: tuple[Flow, ...]) -> None:
    bronze, quarantine, silver, _, _ = made
    write_layer(bronze, 0, [bronze_row(0, value(0))])
    write_layer(quarantine, 0, [bronze_row(0, b"x") | {"value_text": "x", "reasons": ["not_json"]}])
    write_layer(silver, 0, [silver_row(0)])
    connection = views.connect(made)
    for layer in ("bronze", "quarantine", "silver"):
        assert columns(connection, layer) == EXPECTED[layer]


def test_times_are_shown_in_utc(made: tuple[Flow, ...]) -> None:
    write_layer(made[2], 0, [silver_row(0)])
    shown = views.connect(made).sql("SELECT event_time::VARCHAR FROM silver").fetchone()
    assert shown == ("2026-11-21 01:00:00+00",)


@pytest.mark.proves("Readers see whole files", "silver")
def test_each_batch_counts_once_while_a_compacted_file_and_its_parts_stand(made: tuple[Flow, ...]) -> None:
    rows = [silver_row(n) for n in range(4)]
    for batch in range(3):
        write_layer(made[2], batch, [rows[batch]])
    write_layer(made[2], 0, rows[:2], last=1)
    write_layer(made[2], 3, rows[3:])
    assert views.connect(made).sql("SELECT txn_id FROM silver ORDER BY 1").fetchall() == [(f"t{n}",) for n in range(4)]


def test_two_feeds_have_a_schema_each_and_the_first_needs_no_name(feed: Feed, tmp_path: Path) -> None:
    other = feed.model_copy(update={"name": "payments"})
    made = flows([feed, other], tmp_path)
    write_layer(made[2], 0, [silver_row(0)])
    connection = views.connect(made)
    counts = connection.sql("SELECT (SELECT count(*) FROM silver), (SELECT count(*) FROM payments.silver)").fetchone()
    assert counts == (1, 0)


NAME = st.text(alphabet="ab?*[]{}!^-'\"%20#&;=~:,ü \x1b", min_size=1, max_size=6)
PLACE = NAME | st.just("back\\slash")  # settings.py refuses one beside a pattern's sign


@given(st.lists(PLACE, min_size=1, max_size=3, unique=True))
@examples(60)
def test_a_folder_of_any_name_is_read_and_no_other(feed: Feed, names: list[str]) -> None:
    """DuckDB has patterns in paths, homes for ~, and columns for name=value; some of these names match the others."""
    with tempfile.TemporaryDirectory() as folder:
        for rows, name in enumerate(names):
            silver, csv = (flow_of(feed, layer, Path(folder, name, "out")) for layer in ("silver", "raw_csv"))
            write_layer(silver, 0, [silver_row(row, merchant=name) for row in range(rows)])
            csv.layout.output.mkdir()
            file = batch_file(csv.layout.output, "raw_csv", "csv", 0, 0).path
            file.write_text("".join(["n\r\n", *(f"{row}\r\n" for row in range(rows))]))
            assert count_rows(file) == rows
        for rows, name in enumerate(names):
            silver = flow_of(feed, "silver", Path(folder, name, "out"))
            shown = views.connect([silver]).sql("SELECT * FROM silver")
            assert (shown.columns, shown.fetchall()) == (list(EXPECTED["silver"]), [*_rows(rows, name)])


def _rows(count: int, merchant: str) -> Iterator[tuple[object, ...]]:
    for row in range(count):
        held = silver_row(row, merchant=merchant)
        yield tuple(held[column] for column in EXPECTED["silver"])


def test_a_lake_shows_its_dates_and_none_of_the_folders_above_it(tmp_path: Path) -> None:
    (activity,) = load_feeds(PROJECT / "conf" / "feeds", ["user_activity"])
    lake = flow_of(activity, "lake", tmp_path / "country=XX" / "env=prod")
    expected = [*activity.fields, *COORDINATES, "event_date"]
    assert views.connect([lake]).sql("SELECT * FROM lake").columns == expected
    for day in (20, 21):
        folder = lake.layout.output / f"event_date=2026-11-{day}"
        folder.mkdir(parents=True)
        columns = to_arrow_schema(schema.silver(activity), timezone="UTC")
        row = {"country": "DE", "event_time": datetime(2026, 11, day, 23, 30, tzinfo=UTC)}
        pq.write_table(pa.Table.from_pylist([row], columns), batch_file(folder, "lake", "parquet", 0, day).path)
    shown = views.connect([lake]).sql("SELECT * FROM lake")
    assert shown.columns == expected
    assert shown.select("country", "event_date").order("event_date").fetchall() == [
        ("DE", date(2026, 11, 20)),
        ("DE", date(2026, 11, 21)),
    ]


NASTY = st.text(alphabet="=+-@\"',;|\t\r\n \\a1#\u2028", min_size=1, max_size=12)
TEXT = NASTY | st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def csv_cell(text: str) -> str:
    """As layers/raw_csv.py writes it."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set('",\r\n') else text


def check_csv(feed: Feed, texts: list[tuple[str, str, str]]) -> None:
    """Write a CSV with those texts and read it by the view."""
    with tempfile.TemporaryDirectory() as folder:
        flow = flow_of(feed, "raw_csv", Path(folder))
        path = write_file(flow, 0)
        rest = ["12.50", "EUR", "approved"], ["DE", "1.5", "-2.25"]
        cells = [
            [f"t{n}", "2026-11-21T01:00:00.000000Z", a, "card", b, "food", *rest[0], c, *rest[1]]
            for n, (a, b, c) in enumerate(texts)
        ]
        lines = [",".join(feed.fields), *(",".join(map(csv_cell, row)) for row in cells)]
        path.write_text("".join(f"{line}\r\n" for line in lines), newline="")
        rows = views.connect([flow]).sql("SELECT txn_id, user_id, merchant, city FROM raw_csv").fetchall()
        assert sorted(rows) == sorted((f"t{n}", *row) for n, row in enumerate(texts))
        count_rows.cache_clear()
        assert count_rows(path) == len(texts)


@examples(100)
@given(texts=st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=30))
def test_any_csv_of_ours_is_read_as_it_was_written(feed: Feed, texts: list[tuple[str, str, str]]) -> None:
    check_csv(feed, texts)


@pytest.mark.parametrize("first", [("u", "m", "c"), ("'a", "b'", "c")])
def test_the_dialect_is_not_guessed_from_the_first_rows(feed: Feed, first: tuple[str, str, str]) -> None:
    """DuckDB looks at 20,480 rows; what needs quotes may come after those."""
    check_csv(feed, [first] * 25_000 + [('a"b', "x,y", "l\r\nm")])


def test_show_names_every_layer_with_its_rows(made: tuple[Flow, ...], tmp_path: Path, cli: Cli) -> None:
    write_layer(made[0], 0, [bronze_row(0, value(0)), bronze_row(1, b"\xff\xfe"), bronze_row(2, None)])
    write_layer(made[2], 0, [silver_row(0, merchant="Bar & Söhne")])
    shown = cli(tmp_path, "show").out
    for line in ("transactions.bronze: 3 rows", "transactions.silver: 1 rows", "transactions.gold: 0 rows"):
        assert line in shown
    assert "Bar & Söhne" in shown


def test_what_is_merged_while_it_is_read_can_be_read_to_the_end(
    made: tuple[Flow, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention deletes a file after it was listed: before it is opened, or before it is read."""
    rows = [silver_row(n) for n in range(3)]
    parts = [write_layer(made[2], batch, [rows[batch]]) for batch in range(2)]
    opening = views.OpenFiles.path

    def merged(files: views.OpenFiles, path: Path) -> Path:
        if parts:
            write_layer(made[2], 0, rows[:2], last=1)
            parts.pop().path.unlink()
            parts.pop().path.unlink()
        return opening(files, path)

    monkeypatch.setattr(views.OpenFiles, "path", merged)
    with views.connected(made) as connection:
        for file in made[2].files():
            file.path.unlink()
        assert connection.sql("SELECT count(*) FROM silver").fetchone() == (2,)


def test_show_tells_the_same_as_json(made: tuple[Flow, ...], tmp_path: Path, cli: Cli) -> None:
    write_layer(made[2], 0, [silver_row(n, seconds=n) for n in range(7)])
    (silver,) = json.loads(cli(tmp_path, "show", "--sink=silver", "--format=json").out)
    assert (silver["name"], silver["rows"]) == ("transactions.silver", 7)
    assert [row["txn_id"] for row in silver["newest"]] == ["t6", "t5", "t4", "t3", "t2"]


def test_query_gives_the_rows_of_a_sink(made: tuple[Flow, ...], tmp_path: Path, cli: Cli) -> None:
    write_layer(made[2], 0, [silver_row(7)])
    (row,) = json.loads(cli(tmp_path, "query", "--sink=silver", "--format=json").out)
    assert row["txn_id"] == "t7"
    (count,) = json.loads(cli(tmp_path, "query", "--sink=silver", "--sql=SELECT 1 n FROM silver", "--format=json").out)
    assert count == {"n": 1}
    assert cli(tmp_path, "query", "--sink=silver", "--sql=FROM gold").code == 1
    assert cli(tmp_path, "query", "--sink=nothing").code == 2


@pytest.mark.parametrize("sql", ["", ";", " ", "-- only a remark"])
def test_query_asks_for_sql(tmp_path: Path, cli: Cli, sql: str) -> None:
    done = cli(tmp_path, "query", f"--sql={sql}")
    assert done.code == 2
    assert re.match(r"query: --sql: .*transactions\.silver.*\n$", done.err)


def test_query_prints_the_result(made: tuple[Flow, ...], tmp_path: Path, cli: Cli) -> None:
    write_layer(made[2], 0, [silver_row(7)])
    shown = cli(tmp_path, "query", "--sql=SELECT txn_id, amount FROM transactions.silver").out
    assert "t7" in shown
    assert "12.50" in shown
    assert "decimal(18,2)" in shown


def test_a_mistake_in_sql_is_one_line(tmp_path: Path, cli: Cli) -> None:
    done = cli(tmp_path, "query", "--sql=SELECT nothing FROM silver")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("query: Binder Error: ")


VALUES = """
SELECT sum(i) AS wide, 1.50::DECIMAL(5,2) AS exact, 'NaN'::DOUBLE AS none, NULL AS nothing, [1, 2] AS many,
    {'at': TIMESTAMPTZ '2026-11-21 02:00:00+01'} AS nested, MAP {DATE '2026-11-21': 'x'} AS mapped,
    '\\xFFa'::BLOB AS bytes
FROM range(3) t(i)
"""


def test_what_programs_read_has_every_type_and_every_row(tmp_path: Path, cli: Cli) -> None:
    """Values as the service writes them elsewhere: times in UTC, decimals exact; and JSON that all parsers take."""
    record = {
        "wide": 3,
        "exact": "1.50",
        "none": None,
        "nothing": None,
        "many": [1, 2],
        "nested": {"at": "2026-11-21T01:00:00Z"},
        "mapped": {"2026-11-21": "x"},
        "bytes": "\\xffa",
    }
    assert json.loads(cli(tmp_path, "query", f"--sql={VALUES}", "--format=json").out) == [record]
    assert [json.loads(cli(tmp_path, "query", f"--sql={VALUES}", "--format=ndjson").out)] == [record]
    columns, cells = csv.reader(cli(tmp_path, "query", f"--sql={VALUES}", "--format=csv").out.splitlines())
    assert columns == [*record]
    assert cells[:5] == ["3", "1.50", "", "", "[1, 2]"]
    many = cli(tmp_path, "query", "--sql=FROM range(25000)", "--format=ndjson").out.splitlines()
    assert json.loads(many[-1]) == {"range": 24999}
    assert "?" in cli(tmp_path, "query", "--sql=FROM range(25000)").out
