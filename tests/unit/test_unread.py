"""What bronze stepped over is kept, batch by batch."""

from pathlib import Path

import pytest

from stream_app.feeds.feed import Feed
from stream_app.flows import unread
from stream_app.flows.flow import Flow
from stream_app.flows.unread import Unread
from tests.helpers import flow_of, tree

CRC = "failed CRC32C check"


@pytest.fixture
def bronze(feed: Feed, tmp_path: Path) -> Flow:
    flow = flow_of(feed, "bronze", tmp_path)
    flow.checkpoint.path.mkdir(parents=True)
    return flow


def test_ranges_are_kept_by_batch_and_joined_where_they_touch(bronze: Flow) -> None:
    assert unread.read(bronze) == {}
    unread.note(bronze, 3, [Unread(1, 20, 30, CRC), Unread(1, 10, 20, CRC), Unread(1, 30, 31, "is gone")])
    unread.note(bronze, 5, [Unread(0, 7, 8, CRC)])
    joined = [Unread(1, 10, 30, CRC), Unread(1, 30, 31, "is gone")]
    assert unread.read(bronze) == {3: joined, 5: [Unread(0, 7, 8, CRC)]}
    assert [one.offsets for one in joined] == [20, 1]
    assert list(map(str, joined)) == [f"partition 1, offsets 10 to 29: {CRC}", "partition 1, offset 30: is gone"]


def test_a_batch_that_runs_again_has_the_last_word(bronze: Flow) -> None:
    unread.note(bronze, 3, [Unread(1, 10, 20, CRC)])
    unread.note(bronze, 4, [Unread(1, 40, 50, CRC)])
    before = tree(bronze.root)
    unread.note(bronze, 3, [Unread(1, 10, 20, CRC)])
    assert tree(bronze.root) == before
    unread.note(bronze, 3, [])
    assert unread.read(bronze) == {4: [Unread(1, 40, 50, CRC)]}


def test_a_batch_without_any_leaves_no_file(bronze: Flow) -> None:
    unread.note(bronze, 0, [])
    assert tree(bronze.root) == {}
