"""A file that goes missing between what a reader has read and what it reads next is noticed, whatever was merged."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from stream_app.feeds.feed import Feed
from stream_app.flows import chain
from stream_app.flows.flow import Flow
from stream_app.storage.batch_files import BatchFile, batch_file
from tests.helpers import START_MS, flow_of


def linked(flow: Flow, batch: int, last: int | None = None) -> BatchFile:
    """A file as the sinks write it."""
    file = batch_file(flow.layout.output, flow.sink, "parquet", START_MS, batch, last)
    pq.write_table(pa.table({"n": [1]}).replace_schema_metadata(chain.link(flow)), file.path)
    chain.remember(flow, file.path)
    return file


def new_flow(feed: Feed, layer: str, root: str) -> Flow:
    flow = flow_of(feed, layer, Path(root))
    flow.layout.output.mkdir(parents=True)
    flow.checkpoint.path.mkdir(parents=True)
    return flow


@given(st.data(), st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=2, max_size=8))
def test_a_missing_file_is_named_and_none_is_where_all_are_there(
    feed: Feed, data: st.DataObject, steps: list[tuple[int, int]]
) -> None:
    """Files of some batches each, some batches without a file in between."""
    with tempfile.TemporaryDirectory() as root:
        silver = new_flow(feed, "silver", root)
        files: list[BatchFile] = []
        for gap, length in steps:
            first = (files[-1].last if files else -1) + gap
            files.append(linked(silver, first, first + length if length else None))
        read = data.draw(st.integers(-1, len(files) - 2))
        at, planned = files[read].last if read >= 0 else -1, data.draw(st.integers(read, len(files) - 1))
        end = files[planned].last if planned >= 0 else -1
        assert chain.gaps(at, files[read + 1 :], end) == (None, None)
        gone = data.draw(st.integers(read + 1, len(files) - 1))
        rest = files[read + 1 : gone] + files[gone + 1 :]
        # of the newest, last_file tells, and a batch that was to read it
        is_noticed = gone < len(files) - 1 or gone == planned
        if read < 0 and gone == 0 and gone != planned:  # who has read nothing begins with what there is
            assert chain.gaps(at, rest, end) == (files[0].last, None)
        else:
            assert chain.gaps(at, rest, end).missing == (files[gone].last if is_noticed else None)
        assert chain.last_file(silver) == files[-1]


def test_a_file_without_a_link_and_a_damaged_one_are_left_to_their_reader(feed: Feed, tmp_path: Path) -> None:
    gold = new_flow(feed, "gold", str(tmp_path))
    assert chain.last_file(gold) is None
    files = [linked(gold, batch) for batch in (0, 3, 4)]
    pq.write_table(pa.table({"n": [1]}), files[1].path)
    files[2].path.write_bytes(b"PAR1")
    assert chain.gaps(-1, files[1:], 4) == (None, None)
    assert chain.stranger(gold, None) is None
