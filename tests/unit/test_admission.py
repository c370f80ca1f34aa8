"""Whether a flow may go on: the topic must be the one of its checkpoint, and still hold what comes next."""

import shutil
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_app import logs
from stream_app.admission import reset_journal
from stream_app.admission.admit import Admission
from stream_app.admission.inspection import inspect
from stream_app.errors import ConfigError, StreamAppError, UnavailableError
from stream_app.feeds.feed import Feed
from stream_app.flows import chain
from stream_app.flows.flow import Flow
from stream_app.kafka.broker import Broker
from stream_app.kafka.client import client_config
from stream_app.kafka.topic import Topic
from stream_app.layers.registry import datasets
from stream_app.observe.consumer_groups import consumed
from stream_app.sinks.csv import header
from stream_app.storage.batch_files import batch_file
from tests.helpers import START_MS, app_settings, commit, flow_of, plan
from tests.unit.test_chain import linked

RESET = "make reset FEED=transactions SINK=bronze"


class OneTopic:
    """A broker with one topic of two partitions, which holds the offsets from `earliest` up to `end`."""

    def __init__(self) -> None:
        self.id, self.earliest, self.end = "topic-1", {0: 0, 1: 0}, {0: 100, 1: 100}
        self.open: dict[int, int] = {}
        """Where the first open transaction of a partition begins."""
        self.reads_uncommitted = False
        self.cuts: dict[int, int] = {}

    def topic(self, name: str) -> Topic:
        return Topic(name, self.id, (0, 1))

    def earliest_offsets(self, _topic: Topic) -> dict[int, int]:
        return self.earliest

    def end_offsets(self, _topic: Topic) -> dict[int, int]:
        return self.end

    def log_cuts(self, _group: str, _read: object) -> dict[int, int]:
        return self.cuts

    def stable_offsets(self, _topic: Topic) -> dict[int, int]:
        return self.end if self.reads_uncommitted else self.end | self.open


@pytest.fixture
def broker() -> OneTopic:
    return OneTopic()


@pytest.fixture
def bronze(feed: Feed, tmp_path: Path, broker: OneTopic) -> Flow:
    """Bronze, which has read up to offset 40 and 50."""
    flow = flow_of(feed, "bronze", tmp_path)
    assert admission(broker).admit(flow) == Topic("transactions", "topic-1", (0, 1))
    plan(flow, 0, {"transactions": {"0": 40, "1": 50}})
    commit(flow, 0)
    return flow


def admission(broker: OneTopic, *, fail_on_data_loss: bool = True) -> Admission:
    return Admission(cast(Broker, broker), fail_on_data_loss=fail_on_data_loss, has_database=True)


def refusals(flow: Flow, broker: OneTopic) -> list[str]:
    """The sentences by which the flow is refused at a start."""
    verdict = inspect([flow], cast(Broker, broker), fail_on_data_loss=True, has_database=True)
    return [refusal.sentence for refusal in verdict.refusals]


def test_bronze_goes_on_where_the_topic_holds_what_comes_next(bronze: Flow, broker: OneTopic) -> None:
    broker.earliest, broker.end = {0: 40, 1: 0}, {0: 40, 1: 50}
    admission(broker).admit(bronze)


@pytest.mark.parametrize(
    ("earliest", "end"),
    [({0: 41, 1: 0}, {0: 100, 1: 100}), ({0: 0, 1: 0}, {0: 100, 1: 49})],
    ids=["expired", "cut"],
)
def test_offsets_that_are_gone_are_refused_or_by_setting_a_warning(
    bronze: Flow, broker: OneTopic, earliest: dict[int, int], end: dict[int, int]
) -> None:
    broker.earliest, broker.end = earliest, end
    with pytest.raises(ConfigError, match=RESET) as error:
        admission(broker).admit(bronze)
    assert "FAIL_ON_DATA_LOSS=false" in str(error.value)
    admission(broker, fail_on_data_loss=False).admit(bronze)


def test_what_was_read_past_an_open_transaction_is_waited_for(bronze: Flow, broker: OneTopic) -> None:
    """By read_uncommitted; it is there, so it is neither lost nor a matter of FAIL_ON_DATA_LOSS."""
    broker.open = {1: 50}
    admission(broker).admit(bronze)
    broker.open = {1: 49}
    said = "topic transactions: a transaction is open .partition 1 was read to offset 50, .* can be to 49.; waits"
    for fail_on_data_loss in (True, False):
        with pytest.raises(UnavailableError, match=said):
            admission(broker, fail_on_data_loss=fail_on_data_loss).admit(bronze)
    broker.reads_uncommitted = True
    admission(broker).admit(bronze)
    broker.open, broker.reads_uncommitted = {}, False
    plan(bronze, 1, {"transactions": {"0": 70, "1": 60}})
    admission(broker).admit(bronze)
    broker.open = {0: 69}  # the batch was planned beyond it
    with pytest.raises(UnavailableError, match="partition 0 was read to offset 70"):
        admission(broker).admit(bronze)


def test_a_topic_made_again_is_refused_at_start_and_before_a_batch(bronze: Flow, broker: OneTopic) -> None:
    admitted = admission(broker).admit(bronze)
    admission(broker).check_same_topic(bronze, admitted)
    broker.id = "topic-2"
    with pytest.raises(ConfigError, match=RESET):
        admission(broker).admit(bronze)
    with pytest.raises(ConfigError, match=RESET):
        admission(broker).check_same_topic(bronze, admitted)


def test_a_reset_cut_short_keeps_every_flow_out(bronze: Flow, broker: OneTopic) -> None:
    reset_journal.begin(bronze, {})
    for flow in bronze.with_downstream():
        with pytest.raises(ConfigError, match="make reset FEED=transactions"):
            admission(broker).admit(flow)


def test_only_bronze_asks_the_broker(bronze: Flow) -> None:
    silver = bronze.downstream[1]
    assert Admission(cast(Broker, None), fail_on_data_loss=True, has_database=True).admit(silver) is None


def test_what_a_follower_has_consumed_is_told_in_offsets_of_the_topic(bronze: Flow) -> None:
    silver, gold = bronze.downstream[1], bronze.downstream[1].downstream[0]
    assert consumed(bronze) == {0: 40, 1: 50}
    assert consumed(gold) is None
    plan(silver, 3, {"batch": 0})
    commit(silver, 3)
    plan(gold, 8, {"batch": 3})
    commit(gold, 8)
    assert consumed(gold) == {0: 40, 1: 50}
    plan(gold, 9, {"batch": 2})  # of an entry that Spark has purged
    commit(gold, 9)
    assert consumed(gold) is None


def test_kafka_s_client_gets_the_security_settings(tmp_path: Path) -> None:
    assert client_config(app_settings(tmp_path, kafka_bootstrap_servers="b:1").kafka) == {
        "bootstrap.servers": "b:1",
        "security.protocol": "plaintext",
    }
    sasl = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "app", "sasl_password": "x"}
    config = client_config(app_settings(tmp_path, **{f"kafka_{name}": value for name, value in sasl.items()}).kafka)
    assert (config["sasl.mechanism"], config["sasl.username"], config["sasl.password"]) == ("PLAIN", "app", "x")


def test_a_new_sink_begins_with_what_is_left_and_says_so(
    bronze: Flow, broker: OneTopic, capsys: pytest.CaptureFixture[str]
) -> None:
    """RETENTION=prune deletes the oldest files; but what a sink has planned to read must be there."""
    logs.configure("text")
    files = [linked(bronze, batch) for batch in range(4)]
    for batch in range(1, 4):
        plan(bronze, batch, {"transactions": {"0": 40 + batch, "1": 50}})
    for file in files[:2]:
        file.path.unlink()
    silver = flow_of(bronze.feed, "silver", bronze.root)
    admission(broker).admit(silver)
    assert "transactions.silver begins with what is left: files up to batch 1 were deleted" in capsys.readouterr().err
    plan(silver, 0, {"batch": 1})
    with pytest.raises(ConfigError, match="bronze has lost the file of batch 1, which"):
        admission(broker).admit(silver)


@pytest.fixture
def gold(feed: Feed, tmp_path: Path, broker: OneTopic) -> Flow:
    """Gold, with files of the batches 0, 2, 4 and 6."""
    flow = flow_of(feed, "gold", tmp_path)
    admission(broker).admit(flow)
    for batch in range(7):
        plan(flow_of(feed, "silver", tmp_path), batch, {"batch": batch})
        plan(flow, batch, {"batch": batch})
        commit(flow, batch)
        if batch % 2 == 0:
            linked(flow, batch)
    return flow


@pytest.mark.parametrize("gone", [[0], [2], [4], [0, 4]])
def test_a_file_of_its_own_that_was_deleted_is_missed(gold: Flow, broker: OneTopic, gone: list[int]) -> None:
    """Whichever it is; who goes on without it says so once."""
    admission(broker).admit_all([gold])
    for batch in gone:
        gold.files_of(batch)[0].path.unlink()
    anew = "reset it with: make reset FEED=transactions SINK=gold, or go on without it by FAIL_ON_DATA_LOSS=false"
    lost = f"{gold.layout.output} has lost the file of batch"
    assert refusals(gold, broker) == [f"{lost} {batch}; put it back, {anew}" for batch in gone]
    with pytest.raises(ConfigError, match="lost the file of batch"):
        admission(broker).admit_all([gold])
    admission(broker, fail_on_data_loss=False).admit_all([gold])
    admission(broker).admit_all([gold])


def test_a_name_of_the_newest_file_that_a_power_cut_made_old_is_no_loss(gold: Flow, broker: OneTopic) -> None:
    """It is not flushed; by then its batch and the next may be merged."""
    chain.remember(gold, gold.files_of(4)[0].path)
    merged = batch_file(gold.layout.output, gold.sink, "parquet", START_MS, 0, 6).path
    gold.files_of(0)[0].path.rename(merged)
    for file in gold.files(0):
        if file.path != merged:
            file.path.unlink()
    admission(broker).admit(gold)
    admission(broker).admit_all([gold])


def test_of_bronze_there_may_be_no_other_copy(bronze: Flow, broker: OneTopic) -> None:
    files = [linked(bronze, batch) for batch in range(3)]
    plan(bronze, 2, {"transactions": {"0": 60, "1": 60}})
    files[1].path.unlink()
    with pytest.raises(ConfigError, match="has lost the file of batch 1; put it back, or go on without it by FAIL"):
        admission(broker).admit_all([bronze])


def test_what_was_pruned_is_not_missed(gold: Flow, broker: OneTopic) -> None:
    for batch in (0, 2):
        gold.files_of(batch)[0].path.unlink()
    chain.let_go(gold, 2)
    chain.let_go(gold, 1)
    admission(broker).admit_all([gold])
    gold.files_of(4)[0].path.unlink()
    with pytest.raises(ConfigError, match="has lost the file of batch 4"):
        admission(broker).admit_all([gold])


def copied_in(flow: Flow, root: Path, batch: int, last: int | None = None) -> str:
    """A file of another service's query of the same name; its name."""
    other = flow_of(flow.feed, flow.sink, root)
    admission(OneTopic()).admit(other)
    return Path(shutil.copy(linked(other, batch, last).path, flow.layout.output)).name


@pytest.mark.parametrize(("batch", "last"), [(3, None), (0, 6), (1, 3)], ids=["no file", "all", "some"])
def test_a_file_of_another_query_is_found_whatever_its_batch(
    gold: Flow, broker: OneTopic, tmp_path: Path, batch: int, last: int | None
) -> None:
    """Of a batch that had no file, of all that there are, as if it was merged of them, or of some."""
    name = copied_in(gold, tmp_path / "other", batch, last)
    assert any(f"{name} was not written by transactions.gold" in refusal for refusal in refusals(gold, broker))


def test_two_files_of_its_own_that_hold_one_batch(gold: Flow, broker: OneTopic) -> None:
    """Somebody renamed or copied them: neither was merged into the other."""
    files = gold.files()
    files[0].path.rename(batch_file(gold.layout.output, gold.sink, "parquet", START_MS, 0, 3).path)
    files[1].path.rename(batch_file(gold.layout.output, gold.sink, "parquet", START_MS, 2, 4).path)
    with pytest.raises(ConfigError, match=r"are of one batch; move out what transactions\.gold has not written"):
        admission(broker).admit_all([gold])


def test_a_merge_of_files_from_before_they_named_their_query(gold: Flow, broker: OneTopic) -> None:
    """A service that was upgraded, and died in its first merge: the merged file says what the oldest says, nothing."""
    merged = batch_file(gold.layout.output, gold.sink, "parquet", START_MS, 0, 6).path
    pq.write_table(pa.table({"n": [1]}), merged)
    admission(broker).admit_all([gold])


def test_a_file_of_another_query_among_the_late_rows(gold: Flow, broker: OneTopic) -> None:
    gold.layout.late.mkdir()
    late = batch_file(gold.layout.late, gold.layout.late_name, "parquet", START_MS, 3).path
    pq.write_table(pa.table({"n": [1]}).replace_schema_metadata(chain.signature(gold)), late)
    admission(broker).admit_all([gold])
    pq.write_table(pa.table({"n": [1]}).replace_schema_metadata({b"query_id": b"of-another"}), late)
    with pytest.raises(ConfigError, match=f"{late.name} was not written by transactions.gold"):
        admission(broker).admit_all([gold])


@pytest.mark.parametrize(("ids", "is_own"), [((0, 3), True), ((2, 3), True), ((0, 2), False), ((1, 1), False)])
def test_a_merged_csv_is_one_if_it_ends_with_what_it_took_the_place_of(
    feed: Feed, broker: OneTopic, tmp_path: Path, ids: tuple[int, int], is_own: bool
) -> None:
    """A merge that died has deleted the oldest, so those that are left are at its end; of a CSV nothing else tells."""
    mirror = flow_of(feed, "raw_csv", tmp_path)
    admission(broker).admit(mirror)
    plan(mirror, 3, {"batch": -1})
    first_line, records = header(datasets(feed)["silver"]).decode(), [f"record {n}\r\n" * (n + 1) for n in range(4)]

    def write(text: str, first: int, last: int | None = None) -> Path:
        path = batch_file(mirror.layout.output, "raw_csv", "csv", START_MS, first, last).path
        path.write_text(first_line + text, newline="")
        return path

    write("".join(records), 0, 3)
    for n in range(ids[0], ids[1] + 1):
        last = write(records[n], n)
    if is_own:
        admission(broker).admit_all([mirror])
        last.write_text(first_line + records[3].replace("record", "rekord"), newline="")
    with pytest.raises(
        ConfigError, match=r"0000000003\.csv and .* are of one batch; move out what transactions.raw_csv"
    ):
        admission(broker).admit_all([mirror])


@pytest.mark.parametrize("planned", [{"0": 30, "1": 50}, {"0": 40, "1": 101}], ids=["backwards", "beyond"])
def test_a_batch_that_was_planned_while_the_topic_had_another_end(
    bronze: Flow, broker: OneTopic, planned: dict[str, int]
) -> None:
    """The broker had lost its newest records in a power cut, and holds others by now: no retry can read that batch."""
    plan(bronze, 1, {"transactions": planned})
    with pytest.raises(ConfigError, match=r"read up to .*, next to .*the topic holds 0 to 100.*make reset"):
        admission(broker).admit(bronze)
    admission(broker, fail_on_data_loss=False).admit(bronze)


def test_records_that_expired_before_the_first_batch_was_committed(
    feed: Feed, tmp_path: Path, broker: OneTopic
) -> None:
    """It was planned, so Spark would read just these."""
    flow = flow_of(feed, "bronze", tmp_path)
    admission(broker).admit(flow)
    plan(flow, 0, {"transactions": {"0": 40, "1": 50}})
    source = flow.checkpoint.path / "sources" / "0"
    source.mkdir(parents=True)
    (source / "0").write_text('v1\n{"transactions":{"0":5,"1":5}}')
    admission(broker).admit(flow)
    broker.earliest = {0: 6, 1: 0}
    with pytest.raises(ConfigError, match=r"partition 0: read up to 5, next to 40, the topic holds 6 to 100.*reset"):
        admission(broker).admit(flow)
    (source / "0").write_text("")  # a power cut
    with pytest.raises(StreamAppError, match=f"sources/0/0 cannot be read; reset it with: {RESET}"):
        admission(broker).admit(flow)
    linked(flow, 0)  # it had written them
    admission(broker).admit(flow)
