"""make history, optimize, vacuum and restore: what they print, ask and do to Delta tables."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest

from stream_app import logs
from stream_app.admission import ownership
from stream_app.admission.verdict import Refusal
from stream_app.flows.flow import Flow
from stream_app.object_stores import TableRoot
from stream_app.ops import restore
from stream_app.settings import PROJECT
from stream_app.sinks.protocol import sink_of
from stream_app.sinks.registry import load_flows
from stream_app.sinks.table_admission import prepare
from stream_app.sinks.tables import TableSink
from stream_app.storage.batch_files import replace_text
from stream_app.storage.tables.table import Table
from tests.helpers import at, commit, plan, silver_row
from tests.tables import append
from tests.unit.conftest import Cli

SINK = """
[sinks.x]
of = "silver"
to = "delta"
cluster_by = ["card_id", "merchant"]
partition_by = "date(event_time)"
"""


@pytest.fixture
def feeds(tmp_path: Path) -> str:
    folder = tmp_path / "feeds"
    folder.mkdir()
    (folder / "transactions.toml").write_text((PROJECT / "conf/feeds/transactions.toml").read_text() + SINK)
    return str(folder)


@pytest.fixture
def flow(tmp_path: Path, feeds: str) -> Flow:
    """A table of four batches on two dates, with a checkpoint, of a silver that is there."""
    return made(tmp_path, feeds)


def made(tmp_path: Path, feeds: str, root: TableRoot | None = None) -> Flow:
    """The same, with its table at that root, or in its own folder."""
    found = {flow.sink: flow for flow in load_flows(Path(feeds), ["transactions"], tmp_path / "out", root)}
    for one in (found["silver"], found["x"]):
        one.checkpoint.path.mkdir(parents=True)
        (one.checkpoint.path / "metadata").write_text(json.dumps({"id": "q" if one.sink == "x" else "of silver"}))
    flow = found["x"]
    for batch in range(4):
        rows = [silver_row(batch * 10 + n, event_time=at(0) + timedelta(days=n % 2)) for n in range(10)]
        append(flow, batch, rows, upstream="of silver")
        plan(flow, batch, {"batch": batch})
        commit(flow, batch)
    return flow


def table_of(flow: Flow) -> Table:
    return cast(TableSink, sink_of(flow)).table(flow)


def count(
    cli: Cli, flow: Flow, feeds: str, sql: str = "SELECT count(*) AS n, count(DISTINCT txn_id) AS d FROM x"
) -> object:
    return json.loads(cli(flow.root, "query", "--format=json", f"--sql={sql}", FEEDS_PATH=feeds).out)


def test_history_has_versions_with_batch_and_offsets(cli: Cli, flow: Flow, feeds: str) -> None:
    done = cli(flow.root, "history", "--most=2", "--format=json", FEEDS_PATH=feeds)
    ((found,),) = [json.loads(done.out)]
    assert [(one["version"], one["batch"], one["rows"]) for one in found["versions"]] == [(4, 3, 10), (3, 2, 10)]
    assert json.loads(found["versions"][0]["offsets"]) == {"batch": 3}
    shown = cli(flow.root, "history", "--sink=x", FEEDS_PATH=feeds)
    assert "transactions.x in " in shown.out
    assert "add column" not in shown.out


def test_a_sink_that_is_no_table_has_no_history(cli: Cli, flow: Flow, feeds: str) -> None:
    done = cli(flow.root, "history", "--sink=silver", FEEDS_PATH=feeds)
    assert (done.code, done.err) == (2, "history: transactions.silver: none is a table of delta\n")


def test_optimize_puts_near_rows_into_few_files_and_changes_none(cli: Cli, flow: Flow, feeds: str) -> None:
    before = count(cli, flow, feeds)
    done = cli(flow.root, "optimize", "--format=json", FEEDS_PATH=feeds)
    assert [(one["partition"], one["files"], one["after"]) for one in json.loads(done.out)] == [
        ("event_date=2026-11-21", 4, 1),
        ("event_date=2026-11-22", 4, 1),
    ]
    assert count(cli, flow, feeds) == before == [{"n": 40, "d": 40}]
    names = {Path(file.path).name.partition("-")[0] for file in table_of(flow).live()}
    assert names == {"clustered"}
    again = cli(flow.root, "optimize", FEEDS_PATH=feeds)
    assert (again.code, again.out) == (0, "nothing to do: no table has small files\n")
    cards = count(cli, flow, feeds, "SELECT card_id FROM x WHERE event_date = '2026-11-21'")
    assert isinstance(cards, list)
    assert cards == sorted(cards, key=lambda row: str(row["card_id"])), "rows of one card are not beside each other"


def test_vacuum_shows_what_no_version_needs_and_deletes_it_if_told_so(cli: Cli, flow: Flow, feeds: str) -> None:
    cli(flow.root, "optimize", FEEDS_PATH=feeds)
    orphan = flow.layout.output / "part-0000000009-q-dead.parquet"
    orphan.write_text("x")
    nothing = cli(flow.root, "vacuum", FEEDS_PATH=feeds)
    assert (nothing.code, "nothing to delete" in nothing.out) == (0, True)
    past = time.time() - 3 * 3600
    for path in flow.layout.output.rglob("*.parquet"):
        os.utime(path, (past, past))
    shown = cli(flow.root, "vacuum", "--format=json", FEEDS_PATH=feeds, RETENTION_HOURS="1")
    ((found,), code) = json.loads(shown.out)["tables"], shown.code
    assert (found["files"], code, orphan.exists()) == (1, 1, True), "what was replaced just now is kept"
    asked = cli(flow.root, "vacuum", FEEDS_PATH=feeds, RETENTION_HOURS="1")
    assert (asked.code, "--yes" in asked.err) == (2, True)
    assert cli(flow.root, "vacuum", "--yes", FEEDS_PATH=feeds, RETENTION_HOURS="1").code == 0
    assert not orphan.exists()
    assert count(cli, flow, feeds) == [{"n": 40, "d": 40}]


def test_a_lost_checkpoint_is_made_again(cli: Cli, flow: Flow, feeds: str) -> None:
    kept = cli(flow.root, "restore", "--sink=x", "--yes", FEEDS_PATH=feeds)
    assert (kept.code, "nothing is lost" in kept.err) == (2, True)
    for path in (flow.layout.offsets, flow.layout.commits):
        for entry in path.iterdir():
            entry.unlink()
    shown = cli(flow.root, "restore", "--sink=x", "--format=json", FEEDS_PATH=feeds)
    assert (shown.code, flow.checkpoint.last_planned()) == (1, None)
    done = cli(flow.root, "restore", "--sink=x", "--yes", FEEDS_PATH=feeds)
    assert done.code == 0
    assert "goes on behind batch 3 of 2026-11-21 01:00:03 UTC, version 4" in done.out
    restored = flow.checkpoint.last_committed()
    assert restored
    assert (restored.batch_id, restored.end.as_json()["batch"], flow.checkpoint.query_id()) == (3, 3, "q")
    assert flow.checkpoint.planned(2).end.as_json()["batch"] == 2
    assert json.loads(flow.layout.owner.read_text())["upstream"] == "of silver"


def test_a_restore_that_was_cut_short_anywhere_is_refused_at_a_start_and_may_be_repeated(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    for after in range(6):
        flow.layout.metadata.unlink(missing_ok=True)
        written.clear()

        def cut(path: Path, text: str, after: int = after) -> None:
            if len(written) == after:
                raise KeyboardInterrupt
            written.append(path)
            replace_text(path, text)

        with monkeypatch.context() as patched, restore.planned([flow], "x") as (found,):
            patched.setattr(restore, "replace_text", cut)
            with pytest.raises(KeyboardInterrupt):
                restore.apply(found)
        (refusal,) = ownership.inspect(flow, None, "of silver")
        assert isinstance(refusal, Refusal)
        assert "make restore FEED=transactions SINK=x" in refusal.sentence
    with restore.planned([flow], "x") as (found,):
        restore.apply(found)
    assert list(ownership.inspect(flow, None, "of silver")) == []


def test_what_cannot_be_restored_is_said(cli: Cli, flow: Flow, feeds: str) -> None:
    (flow.checkpoint.path / "metadata").unlink()
    (flow.layout.checkpoint.parent / "silver" / "metadata").write_text('{"id": "another"}')
    done = cli(flow.root, "restore", "--sink=x", "--yes", FEEDS_PATH=feeds)
    assert (done.code, "transactions.silver was made again since" in done.err) == (2, True)
    without = cli(flow.root, "restore", FEEDS_PATH=feeds)
    assert (without.code, without.err[:24]) == (2, "restore: --sink: name th")


def test_a_table_that_grows_says_so_in_the_log_and_in_its_history(
    cli: Cli, flow: Flow, feeds: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(feeds) / "transactions.toml"
    note = '[fields.note]\ntype = "string"\nrequired = false\n\n[fields.amount]\ntype = "decimal(20,4)"'
    file.write_text(file.read_text().replace('[fields.amount]\ntype = "decimal(18,2)"', note))
    grown = {flow.sink: flow for flow in load_flows(Path(feeds), ["transactions"], flow.root)}["x"]
    table, sink = table_of(grown), cast(TableSink, sink_of(grown))
    monkeypatch.setattr("stream_app.logs._log.propagate", True)
    caplog.set_level("INFO")
    columns = pa.schema([*sink.rows_of(grown.kind), *sink.partitioning.added])
    assert prepare(grown, table, columns, sink.partitioning, 168, sink.statistics) == 2
    # once each, however many handlers the tests before have left
    said = [*dict.fromkeys(one.getMessage() for one in caplog.records if one.name == logs._log.name)]
    widened = "amount from decimal128(18, 2) to decimal128(20, 4)"
    assert said[0] == f"transactions.x writes its table anew: {widened}"
    assert said[1:] == ["transactions.x has wider columns", "transactions.x added columns to its table"]
    versions = json.loads(cli(flow.root, "history", "--format=json", FEEDS_PATH=feeds).out)[0]["versions"]
    assert [one["what"] for one in versions[:3]] == ["add column", f"widened {widened}", "write"]
