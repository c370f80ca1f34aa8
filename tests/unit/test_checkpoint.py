"""What is read of Spark's checkpoint. tests/spark shows that Spark really writes it so."""

from pathlib import Path

import pytest

from stream_app.errors import StreamAppError
from stream_app.feeds.feed import Feed
from stream_app.flows.flow import Flow
from stream_app.storage import checkpoint
from stream_app.storage.offsets import LayerOffset
from tests.helpers import START_MS, commit, flow_of, plan


@pytest.fixture
def flow(feed: Feed, tmp_path: Path) -> Flow:
    return flow_of(feed, "gold", tmp_path)


def test_a_new_checkpoint_knows_nothing(flow: Flow) -> None:
    checkpoint = flow.checkpoint
    assert (checkpoint.query_id(), checkpoint.last_planned(), checkpoint.last_committed()) == (None, None, None)


def test_a_planned_batch_has_its_time_its_watermark_and_its_end(flow: Flow) -> None:
    plan(flow, 0, {"batch": 3})
    plan(flow, 1, {"batch": 7, "clock": 5}, watermark_ms=START_MS)
    planned = flow.checkpoint.planned(1)
    assert (planned.batch_id, planned.time_ms, planned.watermark_ms) == (1, START_MS + 1000, START_MS)
    assert planned.end == LayerOffset(batch=7, clock=5)


def test_a_batch_is_committed_only_when_it_stands_in_the_commit_log(flow: Flow) -> None:
    for batch in (8, 9, 10):
        plan(flow, batch, {"batch": batch})
    for batch in (8, 9):
        commit(flow, batch)
    (flow.checkpoint.path / "commits" / ".10.crc").touch()
    (flow.checkpoint.path / "commits" / ".10.0a1b.tmp").touch()
    planned, committed = flow.checkpoint.last_planned(), flow.checkpoint.last_committed()
    assert planned is not None
    assert planned.batch_id == 10
    assert committed is not None
    assert committed.batch_id == 9


def test_a_watermark_is_due_until_a_batch_is_planned_with_it(flow: Flow) -> None:
    """Spark plans a batch without data for it, unless the query ends in between."""
    due = [flow.checkpoint.watermark_due()]
    plan(flow, 0, {"batch": 0})
    due.append(flow.checkpoint.watermark_due())
    commit(flow, 0, watermark_ms=START_MS)
    due.append(flow.checkpoint.watermark_due())
    plan(flow, 1, {"batch": 0}, watermark_ms=START_MS)
    due.append(flow.checkpoint.watermark_due())
    commit(flow, 1, watermark_ms=START_MS)
    due.append(flow.checkpoint.watermark_due())
    assert due == [0, 0, START_MS, 0, 0]


@pytest.mark.parametrize("noted", ["", "v1", "v1\n{}", "v1\nnot JSON"])
def test_a_commit_that_tells_no_watermark_makes_none_due(flow: Flow, noted: str) -> None:
    plan(flow, 0, {"batch": 0})
    commit(flow, 0, watermark_ms=START_MS)
    (flow.checkpoint.path / "commits" / "0").write_text(noted)
    assert flow.checkpoint.watermark_due() == 0


def test_a_batch_that_was_never_planned_is_an_error(flow: Flow) -> None:
    with pytest.raises(FileNotFoundError):
        flow.checkpoint.planned(0)


def test_what_a_power_cut_left_empty_is_as_if_it_had_not_been_begun(flow: Flow) -> None:
    """Spark does not flush its logs: their newest entries may come back without their bytes."""
    for batch in (0, 1):
        plan(flow, batch, {"batch": batch})
        commit(flow, batch)
    plan(flow, 2, {"batch": 2})
    empty = [flow.checkpoint.path / "commits" / "1", flow.checkpoint.path / "offsets" / "2"]
    for path in empty:
        path.write_bytes(b"")
    planned, committed = flow.checkpoint.last_planned(), flow.checkpoint.last_committed()
    assert planned is not None
    assert committed is not None
    assert (planned.batch_id, committed.batch_id) == (1, 0)
    assert flow.checkpoint.emptied() == empty
    for path in empty:
        path.unlink()
    assert flow.checkpoint.emptied() == []


def test_a_plan_goes_with_its_commit_that_is_empty_too(flow: Flow) -> None:
    plan(flow, 0, {"batch": 0})
    commit(flow, 0)
    empty = [flow.checkpoint.path / log / "0" for log in ("commits", "offsets")]
    for path in empty:
        path.write_bytes(b"")
    assert flow.checkpoint.emptied() == empty
    assert not flow.checkpoint.has_commits()


@pytest.mark.proves("A power cut loses nothing of bronze, quarantine, silver and the CSV", "bronze")
def test_what_a_batch_was_planned_to_read_is_on_the_disk_before_its_output(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry and its name; of the first batch of a topic where it begins, too. And a commit on which others rely."""
    synced = list[str]()
    monkeypatch.setattr(checkpoint, "sync", lambda path: synced.append(str(path.relative_to(flow.checkpoint.path))))
    for batch in (0, 1):
        plan(flow, batch, {"batch": batch})
        commit(flow, batch)
    flow.checkpoint.flush(0)
    assert synced == ["offsets/0", "offsets"]
    begins = flow.checkpoint.path / "sources" / "0" / "0"
    begins.parent.mkdir(parents=True)
    begins.touch()
    flow.checkpoint.flush(0)
    assert synced[2:] == ["offsets/0", "offsets", "sources/0/0", "sources/0"]
    flow.checkpoint.flush(1)
    assert synced[6:] == ["offsets/1", "offsets"]
    flow.checkpoint.flush_last_commit()
    assert synced[8:] == ["commits/1", "commits"]


def test_a_plan_is_not_deleted_where_its_batch_was_committed(flow: Flow) -> None:
    plan(flow, 0, {"batch": 0})
    commit(flow, 0)
    flow.checkpoint.flush(0)
    (flow.checkpoint.path / "offsets" / "0").write_bytes(b"")
    assert flow.checkpoint.emptied() == []
    assert flow.checkpoint.last_committed() is None
    with pytest.raises(StreamAppError, match="offsets/0 cannot be read; reset its sink with: make reset"):
        flow.checkpoint.planned(0)


def test_where_a_topic_was_to_be_read_from_is_asked_again_if_a_power_cut_took_it(flow: Flow) -> None:
    empty = flow.checkpoint.path / "sources" / "0" / "0"
    empty.parent.mkdir(parents=True)
    empty.touch()
    assert flow.checkpoint.emptied() == [empty]
    empty.touch()
    plan(flow, 0, {"transactions": {"0": 5}})
    assert flow.checkpoint.emptied() == []
    with pytest.raises(StreamAppError, match="sources/0/0 cannot be read; reset its sink with: make reset"):
        flow.checkpoint.first_offsets()


@pytest.mark.parametrize("folder", ["moved", "my out+put: 100%, ü's", "state/0/_stateSchema"])
def test_the_state_of_a_checkpoint_that_was_moved_names_its_files_where_they_are(
    feed: Feed, tmp_path: Path, folder: str
) -> None:
    """As Spark 4.2.0 writes the metadata of transformWithState, and of windows without such files."""
    moved, old = flow_of(feed, "gold", tmp_path / folder).checkpoint, tmp_path / "old/state/chk"
    file = "state/0/_stateSchema/default/0_5e5263ed"
    written = 'v2\n{"operatorInfo":{"operatorId":0},"stateStoreInfo":[{"stateSchemaFilePaths":["file:%s/%s"]}]}'
    metadata = moved.path / "state" / "0" / "_metadata" / "v2" / "0"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(written % (old, file))
    assert moved.moved() == {metadata: written % (moved.path, file)}
    metadata.write_text(written % (moved.path, file))
    assert moved.moved() == {}
    metadata.write_text(windows := 'v2\n{"operatorInfo":{"operatorName":"stateStoreSave"}}')
    assert moved.moved() == {}
    assert metadata.read_text() == windows
