"""Tables in an object store: the same promises as on a disk, and one line where the store does not do its part."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from stream_app.errors import ConfigError, UnavailableError
from stream_app.feeds.feed import Feed
from stream_app.feeds.sinks import SinkTable
from stream_app.ops.views import database
from stream_app.sinks import table_rows
from stream_app.sinks.registry import flows, probe_stores
from stream_app.sinks.table_tidy import Tidying
from stream_app.storage.row_counts import read_parquet
from stream_app.storage.tables.delta import Delta
from stream_app.storage.tables.delta_statistics import statistics
from stream_app.storage.tables.in_store import InStore
from stream_app.storage.tables.store_errors import told
from tests.helpers import app_settings
from tests.store_servers import READ_ONLY, Proxy
from tests.stores import KEY, SECRET, Bucket, careless
from tests.tables import COLUMNS, OWNER, mark, numbered


@pytest.fixture
def table(bucket: Bucket, tmp_path: Path) -> Delta:
    """An empty table in the store."""
    made = Delta(bucket.place(tmp_path))
    assert not made.exists()
    made.create(COLUMNS, (), OWNER, 168)
    return made


def numbers(table: Delta) -> list[int]:
    found = DeltaTable(table.location, storage_options=dict(table.place.options)).scan(columns=["number"])
    return sorted(pa.table(found.read_all())["number"].to_pylist())


def test_a_batch_is_in_once_however_often_it_is_committed(table: Delta, bucket: Bucket, tmp_path: Path) -> None:
    table.commit(mark(0), [numbered(table, 0, 1, 2)])
    other = Delta(bucket.place(tmp_path))
    other.refresh()
    for handle in (table, other):
        handle.commit(mark(0), [numbered(table, 0, 1, 2)])
    other.commit(mark(1), [numbered(table, 1, 3)])
    table.refresh()
    assert (numbers(table), table.written("q"), table.version) == ([1, 2, 3], 1, 2)


def test_a_commit_whose_answer_is_lost_is_found_and_its_parts_stay(
    table: Delta, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = table._write

    def loses_its_answer(*arguments: Any, **options: Any) -> None:
        write(*arguments, **options)
        raise OSError("Generic S3 error: Error performing PUT http://h/b/k: HTTP error: connection closed")

    monkeypatch.setattr(table, "_write", loses_its_answer)
    part = numbered(table, 0, 1)
    table.commit(mark(0), [part])
    assert (numbers(table), table.version) == ([1], 1)
    table.place.abandon([part.path])  # as after a commit of which nobody knows: it may come yet
    assert f"lake/tables/t/{part.path}" in bucket.names()


def test_a_merge_whose_answer_is_lost_keeps_its_file(table: Delta, monkeypatch: pytest.MonkeyPatch) -> None:
    """delta-rs takes its own first try for somebody else's commit."""
    for batch in range(2):
        table.commit(mark(batch), [numbered(table, batch, batch)])
    write = table._write

    def is_tried_twice(*arguments: Any, **options: Any) -> None:
        opened = table._handle()
        write(*arguments, **options)
        table._opened = opened
        write(*arguments, **options)

    merged = numbered(table, 9, 0, 1)
    monkeypatch.setattr(table, "_write", is_tried_twice)
    assert table.rewrite([merged], table.live())
    assert (numbers(table), [file.path for file in table.live()]) == ([0, 1], [merged.path])


def test_small_files_are_merged_and_what_no_version_needs_is_deleted(
    table: Delta, bucket: Bucket, tmp_path: Path
) -> None:
    for batch in range(8):
        table.commit(mark(batch), [numbered(table, batch, batch)])
    Tidying("transactions.x", table, cast(Any, None), 2, statistics).once()
    assert (numbers(table), len(table.live())) == ([*range(8)], 2)
    table.vacuum(0, orphans=True)
    assert sum(key.endswith(".parquet") and "_delta_log" not in key for key in bucket.names()) == 2
    assert list((tmp_path / "_staging").iterdir()) == []
    assert list(table_rows.flaws(table.place, table.live())) == []


def test_duckdb_reads_what_a_query_asks_for_by_ranges(table: Delta) -> None:
    table.commit(mark(0), [numbered(table, 0, *range(1000))])
    with database() as connection:
        table.place.attach(connection)
        table.place.attach(connection)
        urls = [table.place.source(file.path, Path) for file in table.live()]
        assert connection.sql(f"SELECT count(*), max(text) FROM {read_parquet(urls)}").fetchall() == [(1000, "t999")]
        with pytest.raises(duckdb.Error, match="gone"):
            connection.sql(f"SELECT * FROM {read_parquet([table.place.source('gone.parquet', Path)])}").fetchall()


def test_files_are_read_by_their_footers(table: Delta) -> None:
    part = numbered(table, 0, 1, 2)
    found = table.place.look(part.path)
    assert (found.size, found.footer.num_rows) == (part.size, 2)
    assert (table.place.size(part.path), table.place.size("gone")) == (part.size, None)
    with pytest.raises(FileNotFoundError):
        table.place.look("gone")
    assert table.place.foreign() == f"{table.location}/{part.path}"


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        (
            {"DELTA_PATH": "s3://not-there/x"},
            ConfigError,
            r"DELTA_PATH: s3://not-there/x/t: [A-Z]+ http.*NoSuchBucket.*make it",
        ),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, UnavailableError, r"127\.0\.0\.1:1/tests-.*endpoint"),
    ],
)
def test_a_store_that_does_not_answer_is_one_line(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str], error: Any, said: str
) -> None:
    monkeypatch.setattr("stream_app.storage.tables.in_store._RETRIES", 1)
    table = Delta(Bucket(bucket.endpoint, bucket.name, more).place(tmp_path))
    asked: list[Callable[[], object]] = [
        table.exists,
        table.refresh,
        lambda: table.create(COLUMNS, (), OWNER, 168),
        lambda: numbered(table, 0, 1),
    ]
    for ask in asked:
        with pytest.raises(error) as raised:
            ask()
        assert "\n" not in str(raised.value)
        assert re.search(said, str(raised.value))
        assert KEY not in str(raised.value)
        assert SECRET not in str(raised.value)


def test_what_died_in_the_making_goes_once_it_is_old(table: Delta, tmp_path: Path) -> None:
    staging = tmp_path / "_staging"
    staging.mkdir()
    old, young = staging / "0-old.parquet", staging / "0-young.parquet"
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    assert table.mend() == []
    assert [path.name for path in staging.iterdir()] == [young.name]


def test_no_text_of_a_place_has_a_secret(bucket: Bucket, tmp_path: Path) -> None:
    settings = bucket.settings(tmp_path, aws_session_token="also/hidden")  # noqa: S106
    place = bucket.place(tmp_path)
    for text in (repr(settings), repr(settings.tables), repr(place), str(place)):
        assert SECRET not in text
        assert "also/hidden" not in text
    assert dict(place.options)["aws_secret_access_key"] == SECRET


def test_a_store_that_honours_conditional_puts_is_taken_and_left_as_it_was(bucket: Bucket, tmp_path: Path) -> None:
    bucket.place(tmp_path).probe()
    assert bucket.names() == []


def test_a_store_that_lets_nothing_be_written_names_the_key(bucket: Bucket, tmp_path: Path) -> None:
    with Proxy(int(bucket.endpoint.rpartition(":")[2])).running() as proxy:
        proxy.mood = READ_ONLY
        said = rf"DELTA_PATH: {bucket.url}/t: PUT http://\S+/{bucket.name}/lake/tables/t/race-\d: 403 .*credentials"
        with pytest.raises(ConfigError, match=said):
            Bucket(f"http://127.0.0.1:{proxy.port}", bucket.name).place(tmp_path).probe()


@pytest.mark.parametrize(
    ("asked", "code", "error"),
    [
        ("GET", "NoSuchKey", FileNotFoundError),
        ("HEAD", "", FileNotFoundError),
        ("GET", "NoSuchBucket", ConfigError),
        ("GET", "XAdminUserNotFound", ConfigError),  # a key that versitygw does not know
        ("PUT", "", UnavailableError),  # what listens is no store
    ],
)
def test_a_404_is_not_always_of_a_file(asked: str, code: str, error: type[Exception]) -> None:
    said = f"Error performing {asked} http://h/b/k in 2ms - Server returned non-2xx status code: 404 Not Found: "
    with pytest.raises(error) as raised, told("DELTA_PATH", "s3://b/k", ()):
        raise FileNotFoundError(f"{said}<Code>{code}</Code>")
    assert f"{asked} http://h/b/k" in str(raised.value)
    assert ("DELTA_PATH: s3://b/k: " in str(raised.value)) == (error is not FileNotFoundError)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("403 Forbidden", "QuotaExceeded"),
        ("400 Bad Request", "XMinioAdminBucketQuotaExceeded"),
        ("507 Insufficient Storage", "XMinioStorageFull"),
        ("507 Insufficient Storage", ""),
    ],
)
def test_a_full_store_is_waited_for(status: str, code: str) -> None:
    """It says so by the status of wrong credentials, which nobody would wait for."""
    said = f"Generic S3 error: Error performing PUT http://h/b/k in 2ms - Server returned non-2xx status code: {status}"
    is_told = pytest.raises(UnavailableError, match=r"PUT http://h/b/k: .*; the store is full: make room there, or")
    with is_told, told("DELTA_PATH", "s3://b/k", ()):
        raise OSError(f"{said}: <Error><Code>{code}</Code></Error>")


@pytest.mark.parametrize("looks", [False, True], ids=["ignores the condition", "loses races"])
def test_a_store_that_does_not_is_refused(tmp_path: Path, looks: bool) -> None:
    with careless(looks=looks) as server:
        with pytest.raises(ConfigError, match=r"DELTA_PATH: s3://bucket/lake/tables/t: .*conditional puts.*of 8 keys"):
            Bucket(server.address, "bucket").place(tmp_path).probe()
        assert server.objects == {}


@pytest.mark.parametrize("looks", [False, True], ids=["ignores the condition", "loses races"])
def test_a_store_behind_gs_is_raced_too(tmp_path: Path, looks: bool) -> None:
    """Google's condition is another header. No server that pip, npm or Go have honours it: see docs/adr/7."""
    with careless(looks=looks) as server:
        with pytest.raises(ConfigError, match=r"^DELTA_PATH: gs://bucket/lake/t: .*conditional puts.*of 8 keys"):
            google(server.address, tmp_path).probe()
        assert server.objects == {}
    with careless(looks=True, is_honest=True) as server:
        google(server.address, tmp_path).probe()
        assert server.objects == {}


def google(address: str, folder: Path) -> InStore:
    """A place in a bucket of Google's at that address, without a login."""
    key = folder / f"{address.rpartition(':')[2]}.json"  # clients are kept by what they are told
    nobody = {"client_email": "", "private_key": "", "private_key_id": ""}
    key.write_text(json.dumps({"gcs_base_url": address, "disable_oauth": True, **nobody}))
    given = (("google_service_account", str(key)), ("allow_http", "true"))
    return InStore("gs://bucket/lake/t", given, (), folder / "_staging")


@pytest.mark.parametrize("location", [None, "s3://bucket/of/one"])
def test_each_place_of_a_table_is_tried_once(feed: Feed, bucket: Bucket, tmp_path: Path, location: str | None) -> None:
    """A store that is DELTA_PATH's is of no concern where no table lies in it."""
    keys = {"of": "silver", "to": "delta"} | ({"location": location} if location else {})
    sinks = {name: SinkTable.model_validate(keys) for name in (["x"] if location else ["x", "y"])}
    with careless(looks=False) as server:
        there = replace(bucket, endpoint=server.address, more={} if location is None else {"DELTA_PATH": ""})
        tables = there.settings(tmp_path).tables
        named = rf"sinks.x.location of transactions: {location}" if location else f"DELTA_PATH: {bucket.url}"
        with pytest.raises(ConfigError, match=rf"^{named}/_probe/\w+: the store does not honour .* of 8 keys"):
            probe_stores(flows([feed.model_copy(update={"sinks": sinks})], tmp_path, tables), tmp_path)
        probe_stores(flows([feed], tmp_path, tables), tmp_path)
        assert server.objects == {}
    on_disk = SinkTable.model_validate(keys | {"location": str(tmp_path)})
    probe_stores(flows([feed.model_copy(update={"sinks": {"x": on_disk}})], tmp_path, tables), tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"DELTA_PATH": "hdfs://host/x"}, 'DELTA_PATH: "hdfs://host/x" is neither a folder nor a URL'),
        ({"DELTA_PATH": "s3://b/a?b"}, "DELTA_PATH: .* neither"),
        ({"DELTA_PATH": "s3://B"}, "DELTA_PATH: .* neither"),
        ({"AWS_ENDPOINT_URL": "http://h"}, "AWS_ENDPOINT_URL: begins with http://.*AWS_ALLOW_HTTP"),
        ({"AWS_ENDPOINT_URL": "https://user:hidden@h"}, "AWS_ENDPOINT_URL: .* is no URL"),
        ({"AWS_SECRET_ACCESS_KEY": "hidden"}, "AWS_SECRET_ACCESS_KEY: .*together"),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        app_settings(tmp_path, **{name.lower(): value for name, value in settings.items()})
    assert "hidden" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_tables_lie_under_output_path_unless_delta_path_says_otherwise(tmp_path: Path) -> None:
    assert app_settings(tmp_path / "out").tables.location == str(tmp_path / "out")
    assert app_settings(tmp_path / "out", delta_path="~/x").tables.location == str(Path.home() / "x")
    given = {"azure_storage_account": "a", "azure_storage_key": "hidden"}
    azure = app_settings(tmp_path, delta_path="az://data/p/", **given).tables
    assert (azure.location, azure.access.hidden) == ("az://data/p", ("hidden",))
    assert dict(azure.access.options) == {"azure_storage_account_name": "a", "azure_storage_account_key": "hidden"}
    assert "hidden" not in repr(azure)
