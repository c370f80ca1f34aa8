"""Output belongs to its checkpoint: whatever does not match is refused with what to type, and nothing is changed."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stream_app.admission import declared, ownership
from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.feeds.fields import Field
from stream_app.feeds.load import load_feeds
from stream_app.flows import chain
from stream_app.flows.flow import Flow
from stream_app.settings import PROJECT
from stream_app.sinks.registry import flows
from stream_app.storage import key_runs
from stream_app.storage.batch_files import replace_text
from stream_app.storage.checkpoint import DamagedError
from stream_app.storage.offsets import TopicOffsets
from tests.helpers import claim, commit, flow_of, plan, tree, write_file

SINKS = [("bronze", "topic-1"), ("silver", None), ("gold", None), ("raw_csv", None)]


def ran(flow: Flow, topic_id: str | None, batches: int = 3) -> Flow:
    """Claim the flow and let it run for some batches, as the service would."""
    claim(flow, topic_id)
    if flow.sink == "silver":
        flow.layout.seen.mkdir()
    for batch in range(batches):
        plan(flow, batch, {"batch": batch})
        chain.remember(flow, write_file(flow, batch))
        commit(flow, batch)
    return flow


def refused(flow: Flow, topic_id: str | None, problem: str, advice: str = "make reset") -> None:
    """Claim the flow again: refused, exit 2, one line with the problem and the command, and nothing changed."""
    before = tree(flow.root)
    with pytest.raises(ConfigError, match=problem) as error:
        claim(flow, topic_id)
    wanted = f"make reset FEED=transactions SINK={flow.sink}" if advice == "make reset" else advice
    assert wanted in str(error.value)
    assert "\n" not in str(error.value)
    assert tree(flow.root) == before


@pytest.mark.parametrize(("layer", "topic_id"), SINKS)
def test_a_new_output_is_bound_to_a_new_checkpoint(feed: Feed, tmp_path: Path, layer: str, topic_id: str) -> None:
    flow = flow_of(feed, layer, tmp_path)
    claim(flow, topic_id)
    owner = json.loads((flow.layout.output / "_owner.json").read_text())
    assert owner["query_id"] == flow.checkpoint.query_id()
    assert (owner["feed"], owner["layer"], owner["topic_id"]) == ("transactions", layer, topic_id)


@pytest.mark.parametrize(("layer", "topic_id"), SINKS)
def test_what_belongs_together_goes_on(feed: Feed, tmp_path: Path, layer: str, topic_id: str) -> None:
    flow = ran(flow_of(feed, layer, tmp_path), topic_id)
    before = tree(tmp_path)
    claim(flow, topic_id)
    assert tree(tmp_path) == before


def test_a_claim_that_was_cut_short_is_done_again(feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a new flow, and of one that is bound again: by its first start it followed another silver."""
    flow = flow_of(feed, "gold", tmp_path)
    for _ in range(2):
        for call in range(1, 3):
            with monkeypatch.context() as patch:
                patch.setattr(ownership, "replace_text", dies_at(call))
                with pytest.raises(Killed):
                    claim(flow)
        claim(flow)
        shutil.rmtree(tmp_path / "transactions" / "silver", ignore_errors=True)
        shutil.rmtree(tmp_path / "transactions" / "_chk" / "silver", ignore_errors=True)
        claim(flow_of(feed, "silver", tmp_path))
    ran(flow, None)
    claim(flow)


class Killed(BaseException):
    """Instead of a SIGKILL."""


def dies_at(call: int) -> Callable[[Path, str], None]:
    """What replaces replace_text: it dies at its first or second call."""
    calls = itertools.count(1)

    def write(path: Path, text: str) -> None:
        if next(calls) == call:
            raise Killed
        replace_text(path, text)

    return write


@pytest.mark.parametrize(("layer", "topic_id"), SINKS)
def test_a_death_before_the_first_batch_was_planned(feed: Feed, tmp_path: Path, layer: str, topic_id: str) -> None:
    """tests/spark/test_source.py has why; where a topic was to be read from is noted by then, and stays so."""
    flow = flow_of(feed, layer, tmp_path)
    claim(flow, topic_id)
    query_id, first_offsets = flow.checkpoint.query_id(), flow.checkpoint.path / "sources" / "0" / "0"
    first_offsets.parent.mkdir(parents=True)
    first_offsets.write_text('v1\n{"transactions":{"0":7}}')
    for name in ("offsets", "commits", "state"):
        (flow.checkpoint.path / name).mkdir()
        (flow.checkpoint.path / name / ".0.0a1b.tmp").touch()
    claim(flow, topic_id)
    assert flow.checkpoint.query_id() == query_id
    assert flow.checkpoint.first_offsets() == TopicOffsets("transactions", {0: 7})
    assert tree(flow.checkpoint.path).keys() == {"metadata", "sources/0/0"}


def test_a_new_flow_that_is_bound_again_stays_the_one_that_its_followers_know(feed: Feed, tmp_path: Path) -> None:
    """The topic was made again, or is another one, before a record was read; quarantine has planned an empty batch."""
    bronze, quarantine = flow_of(feed, "bronze", tmp_path), flow_of(feed, "quarantine", tmp_path)
    claim(bronze, "topic-1")
    claim(quarantine)
    plan(quarantine, 0, {"batch": -1})
    claim(bronze, "topic-2")
    claim(quarantine)


def test_what_was_planned_stays(feed: Feed, tmp_path: Path) -> None:
    flow = flow_of(feed, "silver", tmp_path)
    claim(flow)
    plan(flow, 0, {"batch": 0})
    flow.layout.seen.mkdir()
    before = tree(tmp_path)
    claim(flow)
    assert tree(tmp_path) == before


def test_a_batch_that_was_planned_and_never_ran_is_no_reason_to_refuse(feed: Feed, tmp_path: Path) -> None:
    flow = ran(flow_of(feed, "silver", tmp_path), None)
    plan(flow, 3, {"batch": 3})
    write_file(flow, 3)  # died between the rename and the commit
    claim(flow)


def test_what_silver_has_seen_was_deleted(feed: Feed, tmp_path: Path) -> None:
    flow = ran(flow_of(feed, "silver", tmp_path), None)
    flow.layout.seen.rmdir()
    refused(flow, None, "seen is missing")


@pytest.mark.parametrize("left", [b"", b"garbage", b"\x93NUMPY\x01\x00", None], ids=["empty", "garbage", "head", "cut"])
def test_what_silver_has_seen_cannot_be_read(feed: Feed, tmp_path: Path, left: bytes | None) -> None:
    """Its first batch would fail again and again."""
    flow = ran(flow_of(feed, "silver", tmp_path), None)
    path = flow.layout.seen / "seen_20261121_010000_0000000001.npy"
    key_runs.save(path, np.array([b"a" * 16, b"b" * 16]), np.array([1, 2]))
    assert [key.tolist() for key in key_runs.load(path)] == [[b"a" * 16, b"b" * 16], [1, 2]]
    claim(flow)
    path.write_bytes(path.read_bytes()[:-1] if left is None else left)
    refused(flow, None, f"{path.name} cannot be read")
    with pytest.raises(DamagedError, match=f"{path.name} cannot be read"):
        key_runs.load(path)


@pytest.mark.parametrize(("layer", "topic_id"), SINKS)
def test_a_checkpoint_deleted_under_its_outputs(feed: Feed, tmp_path: Path, layer: str, topic_id: str) -> None:
    flow = ran(flow_of(feed, layer, tmp_path), topic_id)
    shutil.rmtree(flow.checkpoint.path)
    refused(flow, topic_id, "checkpoint .* is missing or empty")


def test_a_checkpoint_emptied_but_for_its_metadata(feed: Feed, tmp_path: Path) -> None:
    flow = ran(flow_of(feed, "silver", tmp_path), None)
    for log in ("offsets", "commits"):
        shutil.rmtree(flow.checkpoint.path / log)
    refused(flow, None, "checkpoint .* is missing or empty")


def test_the_offsets_of_a_checkpoint_deleted_that_has_no_files(feed: Feed, tmp_path: Path) -> None:
    """As of quarantine where every record was valid, or of a sink that is a table or a topic."""
    flow = ran(flow_of(feed, "quarantine", tmp_path), None)
    for file in flow.files():
        file.path.unlink()
    shutil.rmtree(flow.checkpoint.path / "offsets")
    refused(flow, None, "holds commits of batches, but no longer their offsets")


def test_the_checkpoint_deleted_of_a_sink_without_files(feed: Feed, tmp_path: Path) -> None:
    """A topic would be sent everything again."""
    flow = flow_of(feed, "quarantine", tmp_path)
    claim(flow)
    shutil.rmtree(flow.checkpoint.path)
    refused(flow, None, "transactions.quarantine had begun, but its checkpoint .* is missing")


def test_the_metadata_of_a_checkpoint_deleted(feed: Feed, tmp_path: Path) -> None:
    flow = ran(flow_of(feed, "silver", tmp_path), None)
    (flow.checkpoint.path / "metadata").unlink()
    refused(flow, None, "metadata is missing")


@pytest.mark.parametrize(("layer", "topic_id"), SINKS)
def test_outputs_deleted_under_their_checkpoint(feed: Feed, tmp_path: Path, layer: str, topic_id: str) -> None:
    flow = ran(flow_of(feed, layer, tmp_path), topic_id)
    shutil.rmtree(flow.layout.output)
    refused(flow, topic_id, "deleted or emptied under its checkpoint")


def test_the_newest_file_deleted(feed: Feed, tmp_path: Path) -> None:
    flow = ran(flow_of(feed, "silver", tmp_path), None)
    flow.files()[-1].path.unlink()
    refused(flow, None, "was deleted under its checkpoint")


def test_the_newest_file_compacted_is_not_missed(feed: Feed, tmp_path: Path) -> None:
    flow = ran(flow_of(feed, "silver", tmp_path), None)
    for file in flow.files():
        file.path.unlink()
    write_file(flow, 0, last=2)
    claim(flow)


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "gold_20261121_010000_0000000001.parquet",
        "silver_20261121_010000_0000000001.csv",
        "silver_20261121_010000_0000000099.parquet",
    ],
)
def test_a_foreign_file_in_the_folder(feed: Feed, tmp_path: Path, name: str) -> None:
    """Another layer's, another format's, or a batch that this query never planned."""
    flow = ran(flow_of(feed, "silver", tmp_path), None)
    (flow.layout.output / name).touch()
    refused(flow, None, f"{name} was not written by transactions.silver", "move it out of the folder")


def test_another_feed_s_file_of_a_batch_that_this_one_has_too(feed: Feed, tmp_path: Path) -> None:
    flow = ran(flow_of(feed, "silver", tmp_path), None)
    (flow.layout.output / "silver_20261121_020000_0000000001.parquet").touch()
    refused(flow, None, "are of one batch", "move out what transactions.silver has not written")


def test_a_start_that_came_to_no_batch_is_bound_as_it_was(feed: Feed, tmp_path: Path) -> None:
    """Its followers know its query id, and may have planned a batch by then."""
    silver, gold = flow_of(feed, "silver", tmp_path), flow_of(feed, "gold", tmp_path)
    claim(silver)
    ran(gold, None)
    claim(silver)
    claim(gold)


def test_a_sink_that_was_not_declared_while_files_were_merged(feed: Feed, tmp_path: Path) -> None:
    silver, gold = flow_of(feed, "silver", tmp_path), flow_of(feed, "gold", tmp_path)
    ran(silver, None)
    ran(gold, None, batches=2)
    claim(gold)
    for file in silver.files():
        file.path.unlink()
    write_file(silver, 0, last=2)
    refused(gold, None, "holds batches that transactions.gold has read, and others")


def test_a_topic_deleted_and_created_again(feed: Feed, tmp_path: Path) -> None:
    refused(ran(flow_of(feed, "bronze", tmp_path), "topic-1"), "topic-2", "was deleted and created again")


def test_the_output_of_another_checkpoint(feed: Feed, tmp_path: Path) -> None:
    flow = ran(flow_of(feed, "silver", tmp_path / "one"), None)
    other = ran(flow_of(feed, "silver", tmp_path / "other"), None)
    shutil.copytree(other.layout.output, flow.layout.output, dirs_exist_ok=True)
    refused(flow, None, "belongs to transactions.silver of another checkpoint")


def test_the_output_of_another_feed(feed: Feed, tmp_path: Path) -> None:
    flow = ran(flow_of(feed, "silver", tmp_path), None)
    other = ran(flow_of(feed.model_copy(update={"name": "payments"}), "silver", tmp_path), None)
    shutil.copytree(other.layout.output, flow.layout.output, dirs_exist_ok=True)
    refused(flow, None, "belongs to payments.silver")


def redeclared(tmp_path: Path, old: str, new: str) -> Feed:
    text = (PROJECT / "conf" / "feeds" / "transactions.toml").read_text()
    assert old in text
    folder = tmp_path / "feeds"
    folder.mkdir()
    (folder / "transactions.toml").write_text(text.replace(old, new))
    return load_feeds(folder, ["transactions"])[0]


@pytest.mark.parametrize(
    ("old", "new", "layer", "topic_id"),
    [
        ('watermark = "5 minutes"', 'watermark = "6 minutes"', "gold", None),
        ('txn_count = "count"', 'n = "count"', "gold", None),
        ('within = "1 hour"', 'within = "2 hours"', "silver", None),
        ('"decimal(18,2)"', '"decimal(12,2)"', "raw_csv", None),
        ('topic = "transactions"', 'topic = "other"', "bronze", "topic-1"),
    ],
)
def test_a_declaration_that_state_or_columns_depend_on_changed(
    feed: Feed, tmp_path: Path, old: str, new: str, layer: str, topic_id: str | None
) -> None:
    ran(flow_of(feed, layer, tmp_path), topic_id)
    refused(
        flow_of(redeclared(tmp_path, old, new), layer, tmp_path), topic_id, "the feed file changed what transactions."
    )


# Of the state and the columns that commit c6c8daf wrote for the feeds which the project ships.
OLD_STATES = {
    "transactions.bronze": "9b24266888ec395a",
    "transactions.quarantine": "9b24266888ec395a",
    "transactions.silver": "5491542806655cfc",
    "transactions.gold": "69e56bb6d78f6e7b",
    "transactions.raw_csv": "4bbaa80575129f05",
    "user_activity.bronze": "64ba07ba4cfc4bdc",
    "user_activity.silver": "4c885e5ddaa782bc",
    "user_activity.page_view_counts": "50403953f49952fe",
    "user_activity.active_users": "dffbc225ecabdff7",
    "user_activity.user_sessions": "30cac4a5524915ca",
    "user_activity.lake": "1875a6685563a8e3",
    "user_activity.postgres_page_view_counts": "50403953f49952fe",
    "user_activity.postgres_user_sessions": "30cac4a5524915ca",
}


def test_what_an_older_version_wrote_is_taken_over(tmp_path: Path) -> None:
    shipped = load_feeds(PROJECT / "conf" / "feeds", ["transactions", "user_activity"])
    found = {flow.name: declared.first_digest(flow) for flow in flows(shipped, tmp_path)}
    assert {name: found[name] for name in OLD_STATES} == OLD_STATES


def test_a_sum_that_became_a_decimal_is_another_state(feed: Feed, tmp_path: Path) -> None:
    """Of longs that may overflow one; Spark would fail on the state that stands. All others keep theirs."""

    def state(**amount: object) -> str:
        field = Field.model_validate({"type": "long", **amount})
        changed = feed.model_copy(update={"fields": feed.fields | {"amount": field}})
        return declared.first_digest(flow_of(changed, "gold", tmp_path))

    assert state(range=[0, 10]) == state(range=[0, 2**31 - 1])
    assert state(range=[0, 2**31]) == state() != state(range=[0, 10])


def test_a_rule_that_no_state_depends_on_may_change(feed: Feed, tmp_path: Path) -> None:
    changed = redeclared(tmp_path, "range = [0, 1_000_000]", "range = [0, 5_000_000]")
    for layer, topic_id in SINKS:
        ran(flow_of(feed, layer, tmp_path), topic_id)
        claim(flow_of(changed, layer, tmp_path), topic_id)


def test_an_upstream_that_began_anew_without_its_followers(feed: Feed, tmp_path: Path) -> None:
    """Bronze and its checkpoint deleted by hand: silver's offset counts other batches, which it would skip."""
    bronze, silver = flow_of(feed, "bronze", tmp_path), flow_of(feed, "silver", tmp_path)
    ran(bronze, "topic-1")
    ran(silver, None)
    for path in (bronze.layout.output, bronze.checkpoint.path):
        shutil.rmtree(path)
    ran(bronze, "topic-1", batches=1)
    refused(silver, None, "bronze")
