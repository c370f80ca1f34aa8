"""The commands on a table in an object store: what they do to one on a disk, and what a store that is away comes to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_app.flows.flow import Flow
from stream_app.sinks.protocol import sink_of
from stream_app.storage.tables.delta import Delta
from tests.stores import KEY, SECRET, Bucket
from tests.unit import test_table_commands
from tests.unit.conftest import Cli
from tests.unit.test_table_commands import count, feeds, table_of

__all__ = ["feeds"]

test_history = test_table_commands.test_history_has_versions_with_batch_and_offsets
test_optimize = test_table_commands.test_optimize_puts_near_rows_into_few_files_and_changes_none
test_restore = test_table_commands.test_a_lost_checkpoint_is_made_again


@pytest.fixture
def flow(
    bucket: Bucket,
    tmp_path: Path,
    feeds: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Flow:
    """A table of four batches on two dates in the store, which the commands are told of."""
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return test_table_commands.made(tmp_path, feeds, bucket.root(tmp_path))


def test_what_is_there_is_shown(cli: Cli, flow: Flow, feeds: str, bucket: Bucket) -> None:
    past = "SELECT count(*) AS n, count(DISTINCT txn_id) AS d FROM x AT (VERSION => 2)"
    assert count(cli, flow, feeds, past) == [{"n": 20, "d": 20}]
    told = json.loads(cli(flow.root, "status", "--format=json", FEEDS_PATH=feeds).out)
    (shown,) = [one for one in told if one["sink"] == "x"]
    assert (shown["rows"], shown["files"], shown["newest_file"]) == (40, 8, "version 4")
    assert '"t39"' in cli(flow.root, "show", "--sink=x", "--format=json", FEEDS_PATH=feeds).out
    assert list(sink_of(flow).flaws(flow)) == []
    table_of(flow).place.store.delete(table_of(flow).live()[0].path)  # type: ignore[attr-defined]
    assert "is missing" in "".join(sink_of(flow).flaws(flow))
    assert bucket.url in sink_of(flow).place(flow)


def test_vacuum_deletes_what_no_version_has_named(cli: Cli, flow: Flow, feeds: str, bucket: Bucket) -> None:
    cli(flow.root, "optimize", FEEDS_PATH=feeds)
    before = bucket.names()
    assert "nothing to delete" in cli(flow.root, "vacuum", FEEDS_PATH=feeds).out
    table_of(flow).vacuum(0, orphans=True)
    assert sum(name.endswith(".parquet") and "part-" in name for name in before) == 8
    assert [name for name in bucket.names() if "part-" in name] == []
    assert count(cli, flow, feeds) == [{"n": 40, "d": 40}]


def test_a_table_that_is_reset_is_empty_and_has_no_owner(flow: Flow) -> None:
    sink_of(flow).drop(flow)
    table = table_of(flow)
    assert isinstance(table, Delta)
    assert (table.live(), table.owner) == ([], {"sink": "transactions.x", "query": ""})


def test_the_status_of_a_store_that_is_away_says_so(
    cli: Cli,
    flow: Flow,
    feeds: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream_app.storage.tables.in_store._RETRIES", 1)
    done = cli(flow.root, "status", "--format=json", FEEDS_PATH=feeds, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    (shown,) = [one for one in json.loads(done.out) if one["sink"] == "x"]
    assert (done.code, shown["last_batch"], shown["rows"]) == (0, 3, 0)
    assert shown["last_error"].startswith("DELTA_PATH: s3://tests-")


@pytest.mark.parametrize("command", [("query", "--sql=SELECT * FROM x"), ("history",), ("reset",)])
def test_a_store_that_is_away_is_one_line(
    cli: Cli,
    flow: Flow,
    feeds: str,
    command: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream_app.storage.tables.in_store._RETRIES", 1)
    done = cli(flow.root, *command, FEEDS_PATH=feeds, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith(f"{command[0]}: DELTA_PATH: s3://tests-")
    assert SECRET not in done.err
    assert KEY not in done.err
