"""make status: what it says of a sink comes from the files, and from the service while one runs."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

from stream_app.cli.commands import drain
from stream_app.cli.commands.status import table
from stream_app.feeds.feed import Feed
from stream_app.feeds.sinks import SinkTable
from stream_app.flows.flow import Flow
from stream_app.observe import status_file
from stream_app.observe.monitor import Monitor, State
from stream_app.ops.status import SinkStatus, status
from stream_app.plain import plain
from stream_app.sinks.registry import flows
from stream_app.storage import lock, service_status
from stream_app.storage.row_counts import count_rows
from tests.helpers import (
    START_MS,
    bronze_row,
    commit,
    plan,
    silver_row,
    wait_until,
    write_file,
    write_layer,
)
from tests.unit.conftest import Cli


@pytest.fixture
def made(feed: Feed, tmp_path: Path) -> tuple[Flow, ...]:
    return flows([feed], tmp_path)


def row(made: tuple[Flow, ...], sink: str) -> SinkStatus:
    return next(found for found in status(made[0].root, made).sinks if found.sink == sink)


def test_a_sink_that_never_ran(made: tuple[Flow, ...]) -> None:
    for found in status(made[0].root, made).sinks:
        assert (found.state, found.files, found.rows, found.bytes) == ("stopped", 0, 0, 0)
        assert (found.last_batch, found.newest_file, found.newest_file_age) == (None, None, None)


def test_rows_files_and_ages_of_a_stopped_service(made: tuple[Flow, ...]) -> None:
    bronze, _, silver, _, _ = made
    before = time.time()
    for batch in range(3):
        write_layer(bronze, batch, [bronze_row(batch * 2, b""), bronze_row(batch * 2 + 1, b"")])
    file = write_layer(silver, 0, [silver_row(0)])
    plan(silver, 0, {"batch": 0})
    commit(silver, 0)
    plan(silver, 1, {"batch": 2})  # not committed
    found = row(made, "silver")
    assert (found.last_batch, found.files, found.rows, found.behind) == (0, 1, 1, 4)
    assert (found.newest_file, found.bytes) == (file.path.name, file.path.stat().st_size)
    after = time.time()
    assert found.last_batch_age is not None and found.newest_file_age is not None
    assert before - 1 <= START_MS / 1000 + found.last_batch_age <= after + 1
    assert -1 <= found.newest_file_age <= after - before + 1
    assert row(made, "bronze").rows == 6


def test_a_sink_says_what_it_promises(feed: Feed, tmp_path: Path) -> None:
    sink = SinkTable.model_validate({"of": "quarantine", "to": "kafka", "topic": "dead"})
    made = flows([feed.model_copy(update={"sinks": {"dead": sink}})], tmp_path)
    assert [row(made, name).guarantee for name in ("silver", "dead")] == ["exactly once", "at least once"]


def test_each_column_of_the_table_has_a_title(made: tuple[Flow, ...], capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=200).print(table(status(made[0].root, made)))
    _, _, titles, line, first, *_ = capsys.readouterr().out.splitlines()
    assert len(re.split(r"\s{2,}", titles.strip())) == len(re.split(r"\s{2,}", first.strip())), (titles, line, first)


def test_csv_rows_are_records_not_lines(made: tuple[Flow, ...]) -> None:
    csv = made[-1]
    path = write_file(csv, 0)
    path.write_bytes(b'txn_id,merchant\r\nt1,"a\r\nb"\r\nt2,"say ""x"""\r\nt3,\'=1\r\n')
    assert row(made, "raw_csv").rows == 3


def test_a_full_disk_does_not_silence_the_service(made: tuple[Flow, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The snapshot is written on the blocks that it has; one that cannot be written is tried again."""
    monitor, root = Monitor(made), made[0].root
    monitor[made[0]].last_error = "x" * 100
    status_file.write(root, monitor)
    size = (root / "_status.json").stat().st_size
    monitor[made[0]].last_error = "y" * 500
    status_file.write(root, monitor)
    assert (root / "_status.json").stat().st_size == size
    assert [path.name for path in root.iterdir()] == ["_status.json"]
    assert service_status.read(root)["flows"]["transactions.bronze"]["last_error"] == "y" * 500

    failures = iter([OSError("No space left on device")])

    def write(root: Path, monitor: Monitor) -> None:
        for error in failures:
            raise error
        real(root, monitor)

    real = status_file.write
    monkeypatch.setattr(status_file, "_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(status_file, "write", write)
    monitor[made[0]].restarts = 7
    with status_file.kept(root, monitor):
        wait_until(lambda: service_status.read(root)["flows"]["transactions.bronze"]["restarts"] == 7)


def test_a_compacted_file_counts_once(made: tuple[Flow, ...]) -> None:
    for batch in range(2):
        write_layer(made[2], batch, [silver_row(batch)])
    write_layer(made[2], 0, [silver_row(0), silver_row(1)], last=1)
    assert (row(made, "silver").rows, row(made, "silver").files) == (2, 1)


def test_a_folder_whose_name_has_quotes(feed: Feed, tmp_path: Path) -> None:
    quoted = flows([feed], tmp_path / "it's")
    write_file(quoted[-1], 0)
    assert row(quoted, "raw_csv").rows == 1


def test_a_running_service_tells_its_states(made: tuple[Flow, ...]) -> None:
    root, monitor = made[0].root, Monitor(made)
    for flow in made:
        monitor[flow].state = State.RUNNING
    silver = monitor.statuses["transactions.silver"]
    silver.state, silver.restarts, silver.last_error = State.RESTARTING, 2, "OSError: disk full"
    with lock.sole_user(root, 0):
        status_file.write(root, monitor)
        assert row(made, "bronze").behind is None, "nothing is known before the first report"
        monitor.statuses["transactions.bronze"].behind = {"0": 40, "1": 2}
        status_file.write(root, monitor)
        found = row(made, "silver")
        assert (found.state, found.restarts, found.last_error) == ("restarting", 2, "OSError: disk full")
        assert (row(made, "bronze").state, row(made, "bronze").behind) == ("running", 42)
    assert (row(made, "bronze").state, row(made, "bronze").behind) == ("killed", None), "it had no time to say more"


def test_a_service_that_gave_up_shows_why(made: tuple[Flow, ...]) -> None:
    monitor = Monitor(made)
    silver = monitor.statuses["transactions.silver"]
    silver.state, silver.last_error = State.FAILED, "OSError: disk full"
    status_file.write(made[0].root, monitor)
    assert (row(made, "silver").state, row(made, "silver").last_error) == ("failed", "OSError: disk full")


def test_the_snapshot_is_written_at_once_kept_and_written_a_last_time(made: tuple[Flow, ...]) -> None:
    monitor = Monitor(made)
    monitor[made[0]].state = State.RUNNING
    status_file.write(made[0].root, monitor)  # and then it was killed
    monitor = Monitor(made)
    with status_file.kept(made[0].root, monitor):
        assert service_status.read(made[0].root)["flows"]["transactions.bronze"]["state"] == "starting"
        monitor[made[0]].state = State.DONE
    assert service_status.read(made[0].root)["flows"]["transactions.bronze"]["state"] == "done"
    assert row(made, "bronze").state == "stopped"
    assert not list(made[0].root.glob("*.tmp"))


def test_the_table_has_a_row_a_sink_and_the_errors_under_it(made: tuple[Flow, ...]) -> None:
    monitor = Monitor(made)
    monitor[made[3]].last_error = "ValueError: no"
    monitor[made[2]].counters["refused"] = 1200
    status_file.write(made[0].root, monitor)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table(status(made[0].root, made)))
    assert all(flow.name in capture.get() for flow in made)
    assert "transactions.gold: ValueError: no" in capture.get()
    assert f"{made[2].name}: its topic refused 1,200 records" in capture.get()


@pytest.mark.parametrize(
    "written", ["[/", "[/red] [red]x", "[link=file:///x]", ":smile:", "\x1b[2J\x9b2J\r\n", "\ud800"]
)
def test_what_others_wrote_is_shown_and_never_obeyed(
    feed: Feed, tmp_path: Path, written: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error quotes records, and a folder has any name; both would be markup to rich, or orders to a terminal."""
    made = flows([feed], tmp_path / "".join(sign for sign in written if sign not in "/\r\n\ud800"))
    made[0].root.mkdir(exist_ok=True)
    monitor = Monitor(made)
    monitor[made[3]].last_error = f"ValueError: {written} end"
    monitor[made[3]].state = State.FAILED
    status_file.write(made[0].root, monitor)
    monkeypatch.setenv("COLUMNS", "400")
    shown = cli(made[0].root, "status").out
    assert f"transactions.gold: ValueError: {plain(written)} end" in shown
    assert plain(made[0].root) in shown
    assert "\x1b" not in shown


def test_format_json_is_json(made: tuple[Flow, ...], cli: Cli) -> None:
    done = cli(made[0].root, "status", "--format=json")
    assert [found["sink"] for found in json.loads(done.out)] == [flow.sink for flow in made]


def test_one_sink_of_one_feed_is_shown_alone(made: tuple[Flow, ...], cli: Cli) -> None:
    done = cli(made[0].root, "status", "--feed=transactions", "--sink=gold", "--format=json", FEEDS="user_activity")
    assert [(found["feed"], found["sink"]) for found in json.loads(done.out)] == [("transactions", "gold")]


def test_a_bounded_run_that_was_stopped_says_so(made: tuple[Flow, ...], capsys: pytest.CaptureFixture[str]) -> None:
    monitor = Monitor(made)
    for flow in made:
        monitor[flow].state = State.DONE
    status_file.write(made[0].root, monitor)
    assert drain._verdict(made, "table") == 0
    assert capsys.readouterr().out.endswith("all is read\n")
    monitor[made[3]].state = State.STOPPED
    status_file.write(made[0].root, monitor)
    assert drain._verdict(made, "table") == 1
    assert capsys.readouterr().out.endswith("stopped before all was read: transactions.gold\n")


def test_files_are_counted_once_however_many_there_are_and_csv_by_one_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty feeds of ten outputs have 24,000 files: with a place less, each look would count each anew."""
    most = count_rows.cache_info().maxsize
    assert most
    assert most >= 2 * 50 * 10 * 48
    opened: list[object] = []
    connect = duckdb.connect

    def noted(*given: Any, **options: Any) -> duckdb.DuckDBPyConnection:
        opened.append(given)
        return connect(*given, **options)

    monkeypatch.setattr(duckdb, "connect", noted)
    paths = [tmp_path / f"{i}.csv" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_text("a,b\n" + '1,"x\ny"\n' * i)
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(count_rows, paths)] == [*range(20)]
    assert len(opened) <= 1
