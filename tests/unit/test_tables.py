"""Tables as sinks: what a feed file may say of them, which table a query may go on with, and how they are read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.sinks import SinkTable
from stream_app.flows.flow import Flow
from stream_app.ops import query, views
from stream_app.ops.status import status
from stream_app.sinks import table_admission
from stream_app.sinks.kept_by_key import Fresh, KeptByKey
from stream_app.sinks.protocol import sink_of
from stream_app.sinks.registry import check, flows, probe_stores
from stream_app.sinks.table_changes import Changed, changes
from stream_app.sinks.table_parts import PartWriter, kind_of, whole
from stream_app.sinks.table_tidy import Tidying
from stream_app.sinks.table_writer import TableWriter
from stream_app.sinks.tables import TableSink
from stream_app.storage.tables.delta_statistics import statistics
from stream_app.storage.tables.table import Part
from tests.helpers import app_settings, at, commit, plan, silver_row
from tests.tables import COLUMNS, append, mark, new, numbered, numbers, part

MakeFlow = Callable[..., Flow]


@pytest.fixture
def flow_to(feed: Feed, tmp_path: Path) -> MakeFlow:
    """Makes the flow of a sink x, bound to the query q."""

    def make(of: str = "silver", root: Path = tmp_path, **keys: Any) -> Flow:
        own = feed.model_copy(update={"sinks": {"x": SinkTable.model_validate({"of": of, "to": "delta", **keys})}})
        flow = next(flow for flow in flows([own], root) if flow.sink == "x")
        flow.checkpoint.path.mkdir(parents=True, exist_ok=True)
        (flow.checkpoint.path / "metadata").write_text('{"id": "q"}')
        return flow

    return make


def prepare(flow: Flow, kept_hours: int = 168) -> int:
    sink = cast(TableSink, sink_of(flow))
    columns = pa.schema([*sink.rows_of(flow.kind), *sink.partitioning.added])
    return table_admission.prepare(flow, sink.table(flow), columns, sink.partitioning, kept_hours, statistics)


def rows(flow: Flow, sql: str = "SELECT txn_id FROM x ORDER BY 1") -> list[Any]:
    with views.connected([flow]) as database:
        return database.sql(sql).fetchall()


NEITHER = "is neither a folder from the root on nor a URL such as s3://bucket/prefix, gs://… or az://…"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"partition_by": "nothing"}, 'sinks.x.partition_by: "nothing" is not a column of silver'),
        ({"partition_by": "lat"}, 'sinks.x.partition_by: "lat" is not of a type to partition by of silver'),
        ({"partition_by": "date(city)"}, 'sinks.x.partition_by: "city" is not a time of silver'),
        ({"cluster_by": ["nothing"]}, 'sinks.x.cluster_by: "nothing" is not a column in the files of silver'),
        ({"fresh": True}, "sinks.x.fresh: nothing of silver is open: its rows are final when they come"),
        *(
            ({"location": place}, f"sinks.x.location: {json.dumps(place)} {NEITHER}")
            for place in ("here", "hdfs://host/x", "s3://b", "s3://Bucket/x", "s3://bucket/a?b", "")
        ),
    ],
)
def test_what_cannot_be_is_said_of_the_feed_file(feed: Feed, keys: dict[str, Any], problem: str) -> None:
    own = feed.model_copy(update={"sinks": {"x": SinkTable.model_validate({"of": "silver", "to": "delta", **keys})}})
    assert [": ".join(found) for found in check(own)] == [problem]


@pytest.mark.parametrize("sign", ["%20", "%41", "%c3%a9", "%2F"])
@pytest.mark.parametrize("named_by", ["OUTPUT_PATH", "DELTA_PATH", "sinks.x.location of transactions"])
@pytest.mark.parametrize("is_link", [False, True])
def test_a_table_in_a_path_that_delta_rs_reads_otherwise_is_refused_before_it_is_made(
    feed: Feed, tmp_path: Path, sign: str, named_by: str, *, is_link: bool
) -> None:
    folder = tmp_path / f"a{sign}b" / "out"
    if is_link:
        folder.mkdir(parents=True)
        folder = tmp_path / "link"
        folder.symlink_to(tmp_path / f"a{sign}b" / "out")
    root, elsewhere, keys = (tmp_path / "plain", "", dict[str, str]())
    if named_by == "OUTPUT_PATH":
        root = folder
    elif named_by == "DELTA_PATH":
        elsewhere = str(folder)
    else:
        keys["location"] = str(folder)
    declared = SinkTable.model_validate({"of": "silver", "to": "delta", **keys})
    own, tables = feed.model_copy(update={"sinks": {"x": declared}}), app_settings(root, delta_path=elsewhere).tables
    with pytest.raises(ConfigError) as raised:
        probe_stores(flows([own], root, tables), root)
    said = f'{named_by}: {folder}: a Delta table cannot lie in a path with "{sign[:3]}", which stands for a sign; '
    assert str(raised.value) == said + "name a folder without it"
    probe_stores(flows([feed], root, tables), root)


@pytest.mark.parametrize("name", ["50%", "%%", "%4", "%zz 1"])
def test_a_table_in_a_path_with_other_percent_signs_is_read_as_it_was_written(
    flow_to: MakeFlow, tmp_path: Path, name: str
) -> None:
    flow = flow_to(root=tmp_path / name)
    probe_stores([flow], tmp_path)
    append(flow, 0, [silver_row(1)])
    assert rows(flow) == [("t1",)]


def test_two_sinks_do_not_write_one_folder(feed: Feed) -> None:
    one = SinkTable.model_validate({"of": "silver", "to": "delta", "location": "/there"})
    own = feed.model_copy(update={"sinks": {"x": one, "y": one}})
    assert [*check(own)] == [("sinks.y", "sinks.x has the folder /there already")]


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
@pytest.mark.parametrize("elsewhere", ["", "s3://others/x", "az://others", "/srv"])
def test_a_location_in_a_store_is_reached_by_its_settings_wherever_the_others_are(
    feed: Feed, tmp_path: Path, scheme: str, elsewhere: str
) -> None:
    secret = {"aws_access_key_id": "me", "aws_secret_access_key": "hidden", "azure_storage_key": "secret"}
    settings = app_settings(tmp_path, delta_path=elsewhere, google_application_credentials="/key.json", **secret)
    one = SinkTable.model_validate({"of": "silver", "to": "delta", "location": f"{scheme}://bucket/of/one/"})
    (flow,) = (
        found
        for found in flows([feed.model_copy(update={"sinks": {"x": one}})], tmp_path, settings.tables)
        if found.sink == "x"
    )
    sink = cast(TableSink, sink_of(flow))
    place = sink.root(flow)
    assert sink.place(flow) == place.location == f"{scheme}://bucket/of/one"
    given = {"s3": "hidden", "az": "secret", "gs": "/key.json"}
    assert given[scheme] in place.options.values()
    assert not {*given.values()} - {given[scheme]} & {*place.options.values()}
    for text in (repr(sink.table_root(flow)), repr(place), repr(flow)):
        assert "hidden" not in text
        assert "secret" not in text
    assert [sink_of(own).table_root(own) for own in flows([feed], tmp_path, settings.tables)] == [None] * 5


def test_a_new_table_is_made_and_taken_up_again(flow_to: MakeFlow) -> None:
    flow = flow_to()
    assert prepare(flow) == 0
    assert rows(flow) == []
    append(flow, 0, [silver_row(1)])
    plan(flow, 0, {"batch": 0})
    assert prepare(flow) == 0
    assert rows(flow) == [("t1",)]


def test_a_table_of_another_query_is_refused_and_let_go_by_a_reset(flow_to: MakeFlow, tmp_path: Path) -> None:
    location = tmp_path / "shared"
    first, second = flow_to(location=str(location)), flow_to(root=tmp_path / "2", location=str(location))
    (second.checkpoint.path / "metadata").write_text('{"id": "another"}')
    prepare(first)
    append(first, 0, [silver_row(1)])
    plan(first, 0, {"batch": 0})
    for_both = r"of another checkpoint; if no other service runs, .*make reset FEED=transactions SINK=x"
    with pytest.raises(ConfigError, match=for_both):
        prepare(second)
    second.to.drop(second)
    assert rows(second) == []
    prepare(second)
    with pytest.raises(ConfigError, match=for_both):
        table_admission.check_owner(first, cast(TableSink, sink_of(first)).table(first))


def test_a_table_that_is_nobody_s_or_another_sink_s_is_refused(flow_to: MakeFlow) -> None:
    flow = flow_to()
    table = cast(TableSink, sink_of(flow)).table(flow)
    table.create(pa.schema([("a", pa.int64())]), (), {}, 168)
    with pytest.raises(ConfigError, match=r"is a table that transactions.x has not made"):
        prepare(flow)
    table.create(pa.schema([("a", pa.int64())]), (), {"sink": "other.y", "query": "q"}, 168)
    with pytest.raises(ConfigError, match=r"is the table of other.y"):
        prepare(flow)


def test_files_without_a_log_are_in_the_way(flow_to: MakeFlow) -> None:
    flow = flow_to()
    flow.layout.output.mkdir(parents=True)
    (flow.layout.output / "mine.parquet").touch()
    with pytest.raises(ConfigError, match=r"mine.parquet is in the way of the table of transactions.x"):
        prepare(flow)


def test_table_and_checkpoint_have_the_same_batches(flow_to: MakeFlow) -> None:
    flow = flow_to()
    prepare(flow)
    append(flow, 0, [silver_row(1)])
    with pytest.raises(ConfigError, match=r"has batches of transactions.x that its checkpoint lacks; .*make reset"):
        prepare(flow)
    for batch in (0, 1):
        plan(flow, batch, {"batch": batch})
        commit(flow, batch)
    with pytest.raises(ConfigError, match=r"lacks batches of transactions.x that its checkpoint has; .*make reset"):
        prepare(flow)


def test_columns_are_added_and_what_is_not_an_addition_is_refused(flow_to: MakeFlow) -> None:
    flow = flow_to()
    prepare(flow)
    append(flow, 0, [silver_row(1)])
    plan(flow, 0, {"batch": 0})
    sink = cast(TableSink, sink_of(flow))
    table, columns = sink.table(flow), sink.rows_of(flow.kind)
    wider = pa.schema([*columns, pa.field("note", pa.string()), pa.field("tags", pa.list_(pa.string()))])
    assert table_admission.prepare(flow, table, wider, sink.partitioning, 168, statistics) == 2
    assert {*table.columns.names} == {*wider.names}
    for other, problem in (
        (columns, "has columns that the feed no longer has"),
        (
            wider.set(0, pa.field(columns.names[0], pa.int64())),
            "has string in its column txn_id, where the feed has int64",
        ),
    ):
        with pytest.raises(ConfigError, match=rf"{problem}.*make reset FEED=transactions SINK=x"):
            table_admission.prepare(flow, table, other, sink.partitioning, 168, statistics)
    with pytest.raises(ConfigError, match=r"is partitioned by nothing, and by the feed file by city"):
        table_admission.prepare(
            flow, table, wider, cast(TableSink, sink_of(flow_to(partition_by="city"))).partitioning, 168, statistics
        )
    assert rows(flow) == [("t1",)]


def test_foreign_features_are_refused(flow_to: MakeFlow) -> None:
    flow = flow_to()
    prepare(flow)
    append(flow, 0, [silver_row(1)])
    plan(flow, 0, {"batch": 0})
    entry = flow.layout.output / "_delta_log" / f"{0:020d}.json"
    lines = [json.loads(line) for line in entry.read_text().splitlines()]
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    changed = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}
    entry.write_text("\n".join(json.dumps(changed if "protocol" in line else line) for line in lines))
    with pytest.raises(ConfigError, match=r"has features that this service does not write \(deletionVectors\)"):
        prepare(flow)


def test_how_long_versions_are_kept_follows_the_setting(flow_to: MakeFlow) -> None:
    flow = flow_to()
    prepare(flow)
    append(flow, 0, [silver_row(1)])
    plan(flow, 0, {"batch": 0})
    prepare(flow, kept_hours=24)
    table = cast(TableSink, sink_of(flow)).table(flow)
    assert table.kept_hours == 24
    assert table.owner == {"sink": "transactions.x", "query": "q"}


@pytest.mark.parametrize("partition_by", ["date(event_time)", "city", None])
def test_rows_are_read_back_whatever_the_partitions(flow_to: MakeFlow, partition_by: str | None) -> None:
    flow = flow_to(**({"partition_by": partition_by} if partition_by else {}))
    cities = ["Jena", "", None, "a/b c=1", "%41"]
    days = [timedelta(), timedelta(days=1), timedelta(days=-500), timedelta(), timedelta()]
    written = [
        silver_row(number, city=city, event_time=at(0) + day)
        for number, (city, day) in enumerate(zip(cities, days, strict=True))
    ]
    append(flow, 0, written)
    found = rows(flow, "SELECT city, event_time FROM x ORDER BY txn_id")
    assert [city for city, _ in found] == [(city or None) if partition_by == "city" else city for city in cities]
    assert [time.astimezone(UTC) for _, time in found] == [row["event_time"] for row in written]
    if partition_by == "date(event_time)":
        dates = rows(flow, "SELECT event_date::VARCHAR FROM x ORDER BY txn_id")
        assert [date for (date,) in dates] == ["2026-11-21", "2026-11-22", None, "2026-11-21", "2026-11-21"]
    misplaced = sink_of(flow).misplaced(flow, (), Path)
    assert misplaced is None or rows(flow, misplaced) == []


def test_a_table_is_read_as_it_was(flow_to: MakeFlow, tmp_path: Path) -> None:
    flow = flow_to()
    for batch in range(3):
        append(flow, batch, [silver_row(batch)])
    settings = app_settings(tmp_path)
    sql = 'SELECT (SELECT count(*) FROM transactions.x AT (VERSION => {})), (SELECT count(*) FROM "x") -- AT ('

    def asked(text: str) -> list[Any]:
        found = query.query(settings.servers, (flow,), text)
        assert found
        return [tuple(record.values()) for record in found.records()]

    assert asked(sql.format("1 + 1")) == [(2, 3)]
    for named in ("x t AT ({})", "x AS t AT ({})", "x AT ({}) t", 'transactions."x" AT ({}) AS t'):
        then = named.format("TIMESTAMP => now() + INTERVAL '1 hour'")
        assert asked(f"SELECT count(*) FILTER ('ü漢' <> '') FROM {then} WHERE t.txn_id <> 'AT ('") == [(3,)]
    with pytest.raises(ConfigError, match=r"has no version of 1970-01-01"):
        asked("FROM x AT (TIMESTAMP => TIMESTAMP '1970-01-01')")
    with pytest.raises(ConfigError, match=r"there is no version 77; the newest is \d+$"):
        asked("FROM x AT (VERSION => 77)")
    table = cast(TableSink, sink_of(flow)).table(flow)
    first, *others = sorted(table.live(), key=lambda file: file.path)
    assert table.rewrite([], [first])
    (flow.layout.output / first.path).unlink()
    assert asked("SELECT count(*) FROM x") == [(len(others),)]
    with pytest.raises(ConfigError, match=r"can no longer be read"):
        asked("FROM x AT (VERSION => 1)")


def test_what_was_committed_is_read_though_the_table_is_ahead(flow_to: MakeFlow) -> None:
    flow = flow_to()
    for batch in range(3):
        append(flow, batch, [silver_row(batch)])
    for batch, expected in ((-1, 0), (0, 1), (1, 2), (2, 3), (9, 3)):
        sql = sink_of(flow).committed(flow, (), batch, Path)
        assert rows(flow, f"SELECT count(*) FROM ({sql})") == [(expected,)]


def test_status_and_flaws_are_the_log_s(flow_to: MakeFlow, tmp_path: Path) -> None:
    flow = flow_to()
    append(flow, 0, [silver_row(1), silver_row(2)])
    (found,) = status(tmp_path, [flow]).sinks
    assert (found.files, found.rows, found.newest_file) == (1, 2, "version 1")
    assert [*sink_of(flow).flaws(flow)] == []
    (path,) = flow.layout.output.glob("part-*")
    path.write_bytes(path.read_bytes()[:-1])
    assert [str(path) in line for line in sink_of(flow).flaws(flow)] == [True]
    path.unlink()
    assert [*sink_of(flow).flaws(flow)] == [f"{path} is missing, and the table's log names it"]


def test_null_keys_are_one_key() -> None:
    columns = pa.schema([("k", pa.string()), ("d", pa.float64()), ("n", pa.int64())])

    def of(*found: tuple[str | None, float | None, int]) -> pa.Table:
        return pa.Table.from_pylist([dict(zip(columns.names, row, strict=True)) for row in found], columns)

    held, changed = of((None, 1.0, 1), ("a", None, 2), ("b", 1.0, 3)), of((None, 1.0, 9), ("a", None, 8), ("c", 1.0, 7))
    merged = KeptByKey(columns, ("k", "d")).merged(held, changed).to_pylist()
    assert sorted(row["n"] for row in merged) == [3, 7, 8, 9]


def test_windows_are_final_once_the_watermark_has_passed_them(flow_to: MakeFlow) -> None:
    flow = flow_to("gold", fresh=True)
    assert flow.stateful
    columns = cast(TableSink, sink_of(flow)).rows_of(flow.kind)

    def window(minute: int, count: int) -> dict[str, Any]:
        times = {"window_start": at(minute * 60), "window_end": at(minute * 60 + 60)}
        return {**times, "card_id": None, "txn_count": count, "final": False}

    held = pa.Table.from_pylist([window(0, 1), window(1, 1), window(2, 1)], columns)
    changed = pa.Table.from_pylist([window(1, 2), window(3, 1)], columns)
    watermark = int(at(120).timestamp() * 1000)
    final, still_open = Fresh.of(columns, flow.stateful).as_of(held, changed, watermark)
    told = [sorted((row["window_start"], row["txn_count"]) for row in one.to_pylist()) for one in (final, still_open)]
    assert told == [[(at(0), 1), (at(60), 2)], [(at(120), 1), (at(180), 1)]]
    assert [one[-1].unique().to_pylist() for one in (final, still_open)] == [[True], [False]]


def test_open_windows_that_somebody_else_compacted_are_brought_up_to_date_all_the_same(flow_to: MakeFlow) -> None:
    """delta-rs and Spark call their files `part-…`, too, which says nothing of the rows in them."""
    flow = flow_to("gold", fresh=True)
    assert flow.aggregate
    sink = cast(TableSink, sink_of(flow))
    columns, root = sink.rows_of(flow.kind), sink.root(flow)

    def window(minute: int, final: bool) -> dict[str, Any]:
        times = {"window_start": at(minute * 60), "window_end": at(minute * 60 + 60)}
        return {**times, "card_id": "c", "txn_count": 1, "final": final}

    for batch, minutes in enumerate(((0, True), (1, False), (2, False))):
        append(flow, batch, [window(*minutes)])
    DeltaTable(root.location).optimize.compact()
    table = sink.table(flow)
    (compacted,) = table.live()
    assert (Path(compacted.path).name[:5], kind_of(compacted)) == ("part-", "")
    writer = PartWriter(root, "q", 3, columns, statistics, whole)
    told = changes(flow.aggregate, columns).apply(writer, table.live(), iter(()), int(at(120).timestamp() * 1000))
    (changed, *parts) = told
    assert isinstance(changed, Changed)
    assert changed.replaced == {compacted.path}
    files = [Path(root.location) / one.path for one in parts if isinstance(one, Part)]
    found = [pq.read_table(file)["final"].to_pylist() for file in files]
    assert found == [[True, True], [False]]


def test_a_merge_takes_files_of_one_width_and_none_that_may_change(tmp_path: Path) -> None:
    narrow = pa.schema([COLUMNS.field("number")])
    table = new(tmp_path / "t")
    for batch in range(8):
        table.commit(mark(batch), [part(table, batch, [{"number": batch}], narrow if batch < 4 else COLUMNS)])
    opened = numbered(table, 8, 8)
    path = opened.path.replace("part-", "open-")
    (tmp_path / "t" / opened.path).rename(tmp_path / "t" / path)
    table.commit(mark(8), [replace(opened, path=path)])
    Tidying("transactions.x", table, cast(Any, None), 2, statistics).once()
    kinds = Counter(Path(file.path).name.partition("-")[0] for file in table.live())
    assert kinds == {"merged": 2, "part": 1, "open": 1}
    assert numbers(table) == [*range(9)]


def test_parts_of_a_commit_that_failed_go_once_the_table_says_that_it_has_them_not(
    tmp_path: Path, flow_to: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full must not be filled by attempts; where the table cannot be asked, they stay."""
    table = new(tmp_path / "t")
    shape = cast(Any, SimpleNamespace(root=table.place))
    writer = TableWriter(flow_to(), table, shape, None, cast(Any, None))
    parts = [numbered(table, 0, 1)]

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    def away(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(table, "_write", full)
    with monkeypatch.context() as patch:
        patch.setattr(table, "refresh", away)
        with pytest.raises(OSError, match="Input/output"):
            writer._commit(mark(0), parts, [])
    assert (tmp_path / "t" / parts[0].path).exists()
    with pytest.raises(OSError, match="No space"):
        writer._commit(mark(0), parts, [])
    assert not (tmp_path / "t" / parts[0].path).exists()
