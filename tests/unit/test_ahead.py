"""A follower that is ahead of what it follows is refused, whichever of the two is from an older copy."""

import shutil
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_app.admission import ahead
from stream_app.admission.admit import Admission
from stream_app.admission.inspection import inspect
from stream_app.errors import ConfigError
from stream_app.feeds.load import load_feeds
from stream_app.flows import chain
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.kafka.topic import Topic
from stream_app.settings import PROJECT
from stream_app.sinks.registry import flows
from stream_app.storage.batch_files import REPLAY, batch_file
from tests.helpers import START_MS, commit, plan
from tests.unit.test_admission import OneTopic

FEEDS = load_feeds(PROJECT / "conf" / "feeds", ("transactions", "user_activity"))
FOLLOWERS = [flow for flow in flows(FEEDS, Path()) if flow.upstream]
BATCHES = 4


def names(flow: Flow) -> str:
    return flow.name


def admission() -> Admission:
    return Admission(cast(Broker, OneTopic()), fail_on_data_loss=True, has_database=True)


@pytest.fixture
def ran(tmp_path: Path) -> dict[str, Flow]:
    return run_all(tmp_path)


def run_all(root: Path) -> dict[str, Flow]:
    """All flows of both feeds, each of which has read what it follows to the end."""
    found = {flow.name: flow for flow in flows(FEEDS, root)}
    admission().admit_all(tuple(found.values()))
    for flow in found.values():
        for batch in range(BATCHES):
            read = {"batch": batch, "clock": (START_MS + batch) * 1000, "replay": -1}
            plan(flow, batch, read if flow.upstream else {flow.feed.topic: {"0": 10 * batch, "1": 0}})
            commit(flow, batch)
            write(flow, batch)
        if flow.kind.drops_repeats and flow.is_own:
            flow.layout.seen.mkdir()
    return found


def write(flow: Flow, batch: int) -> None:
    """A file whose newest record is as old as the batch's clock says."""
    if flow.sink not in {"bronze", "silver"}:
        return
    file = batch_file(flow.layout.output, flow.sink, "parquet", START_MS, batch)
    times = pa.array([(START_MS + batch) * 1000], pa.timestamp("us", "UTC"))
    rows = pa.table({"kafka_ts": times, "partition": pa.array([0], pa.int32())})
    pq.write_table(rows.replace_schema_metadata(chain.link(flow)), file.path)
    chain.remember(flow, file.path)


def restored(flow: Flow, batches: int) -> None:
    """The flow as it was when it had planned so many batches, and written and committed all but the last."""
    for file in flow.files(batches - 2):
        file.path.unlink()
    for batch in range(batches, BATCHES):
        (flow.checkpoint.path / "offsets" / str(batch)).unlink()
    for batch in range(batches - 1, BATCHES):
        (flow.checkpoint.path / "commits" / str(batch)).unlink()
    if files := flow.files():
        chain.remember(flow, files[-1].path)


def start(root: Path) -> None:
    """What the service asks before Spark starts."""
    admission().admit_all(flows(FEEDS, root))


@pytest.mark.usefixtures("ran")
def test_who_has_read_all_goes_on(tmp_path: Path) -> None:
    start(tmp_path)


@pytest.mark.parametrize("follower", FOLLOWERS, ids=names)
def test_a_follower_that_has_read_what_was_never_planned_is_refused(follower: Flow, ran: dict[str, Flow]) -> None:
    """Of every layer; a batch that is planned and not committed yet may have been read."""
    flow = ran[follower.name]
    assert flow.upstream
    plan(flow, BATCHES, {"batch": BATCHES, "clock": 0, "replay": -1})
    (refusal,) = ahead.inspect(flow)
    assert f"up to batch {BATCHES}, which by its checkpoint has come to {BATCHES - 1} only" in refusal.sentence
    assert refusal.sentence.endswith(refusal.command)
    assert refusal.command == f"make reset FEED={flow.feed.name} SINK={flow.sink}"
    assert "\n" not in refusal.sentence
    plan(flow.upstream, BATCHES, {"batch": BATCHES, flow.feed.topic: {"0": 99, "1": 0}})
    assert list(ahead.inspect(flow)) == []


@pytest.mark.parametrize(("layer", "first"), [("bronze", "quarantine"), ("silver", "gold")])
def test_a_layer_that_was_restored_from_an_older_copy(
    layer: str, first: str, ran: dict[str, Flow], tmp_path: Path
) -> None:
    """Each that follows it has a line with its command, and after these the service starts."""
    flow = ran[f"transactions.{layer}"]
    restored(flow, BATCHES - 1)
    found = flows(FEEDS, tmp_path)
    refusals = inspect(found, cast(Broker, OneTopic()), fail_on_data_loss=True, has_database=True).refusals
    ahead_of_it = [each for each in flow.downstream if each.feed == flow.feed]
    assert refusals[0].sentence.startswith(f"transactions.{first} has read transactions.{layer} up to batch 3")
    expected = [f"make reset FEED=transactions SINK={each.sink}" for each in ahead_of_it]
    assert [one.command for one in refusals] == expected
    with pytest.raises(ConfigError):
        start(tmp_path)
    for each in (each for one in ahead_of_it for each in one.with_downstream()):
        shutil.rmtree(each.layout.output)
        shutil.rmtree(each.checkpoint.path)
    start(tmp_path)


def test_a_copy_whose_last_batch_was_planned_only_is_no_older_one(ran: dict[str, Flow], tmp_path: Path) -> None:
    """A crash between the file and its commit: the batch runs again, and finds or writes the same file."""
    (ran["transactions.bronze"].checkpoint.path / "commits" / str(BATCHES - 1)).unlink()
    start(tmp_path)


@pytest.mark.parametrize("ledger", [[], [0]], ids=["gone", "older"])
def test_silver_is_refused_where_its_ledger_is_older(ledger: list[int], ran: dict[str, Flow], tmp_path: Path) -> None:
    """The next replay would be the file that silver has read."""
    silver = ran["transactions.silver"]
    plan(silver, BATCHES, {"batch": BATCHES - 1, "clock": 0, "replay": 1})
    silver.layout.replay.mkdir()
    for number in ledger:
        batch_file(silver.layout.replay, REPLAY, "parquet", START_MS, number).path.touch()
    with pytest.raises(ConfigError, match=r"_replay up to file 1, .* SINK=silver$"):
        start(tmp_path)
    batch_file(silver.layout.replay, REPLAY, "parquet", START_MS, 1).path.touch()
    start(tmp_path)


@pytest.mark.parametrize("follower", FOLLOWERS, ids=names)
def test_a_clock_that_no_batch_has_now_is_refused(follower: Flow, ran: dict[str, Flow], tmp_path: Path) -> None:
    """The restored layer has gone on: the ids are there again, and other records under them."""
    flow = ran[follower.name]
    read: dict[str, Any] = {"batch": BATCHES - 1, "replay": -1}
    plan(flow, BATCHES, {**read, "clock": (START_MS + BATCHES) * 1000})
    with pytest.raises(ConfigError, match=f"{flow.name} has read a newer record .* SINK={flow.sink}$"):
        start(tmp_path)
    plan(flow, BATCHES, {**read, "clock": (START_MS + BATCHES - 1) * 1000})
    start(tmp_path)


def test_a_clock_tells_nothing_where_files_were_pruned(ran: dict[str, Flow]) -> None:
    bronze = ran["transactions.bronze"]
    for file in bronze.files():
        file.path.unlink()
        chain.let_go(bronze, file.last)
    assert list(ahead.inspect_clock(ran["transactions.silver"])) == []


def test_a_query_that_is_restarted_is_asked_again(ran: dict[str, Flow]) -> None:
    restored(ran["transactions.bronze"], BATCHES - 1)
    with pytest.raises(ConfigError, match=r"has read transactions\.bronze"):
        admission().admit(ran["transactions.silver"])
    assert admission().admit(ran["transactions.bronze"]) == Topic("transactions", "topic-1", (0, 1))
