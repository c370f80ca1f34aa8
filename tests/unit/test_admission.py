"""Whether a flow may go on: the topic must be the one of its checkpoint, and still hold what comes next."""

from pathlib import Path
from typing import Any, cast

import pytest

from stream_app import logs, restart
from stream_app.admission import Admission
from stream_app.broker import Broker, Topic, client_config
from stream_app.errors import ConfigError
from stream_app.feed import Feed
from stream_app.flow import Flow, Layer
from stream_app.groups import consumed
from tests.helpers import app_settings, commit, plan
from tests.unit.test_chain import linked

RESET = "make reset FEED=transactions SINK=bronze"


class OneTopic:
    """A broker with one topic of two partitions, which holds the offsets from `earliest` up to `end`."""

    def __init__(self) -> None:
        self.id, self.earliest, self.end = "topic-1", {0: 0, 1: 0}, {0: 100, 1: 100}

    def topic(self, name: str) -> Topic:
        return Topic(name, self.id, (0, 1))

    def earliest_offsets(self, _topic: Topic) -> dict[int, int]:
        return self.earliest

    def end_offsets(self, _topic: Topic) -> dict[int, int]:
        return self.end


@pytest.fixture
def broker() -> OneTopic:
    return OneTopic()


@pytest.fixture
def bronze(feed: Feed, tmp_path: Path, broker: OneTopic) -> Flow:
    """Bronze, which has read up to offset 40 and 50."""
    flow = Flow(feed, Layer.BRONZE, tmp_path)
    assert admission(flow, broker).admit(flow) == Topic("transactions", "topic-1", (0, 1))
    plan(flow, 0, {"transactions": {"0": 40, "1": 50}})
    commit(flow, 0)
    return flow


def admission(flow: Flow, broker: OneTopic, **settings: Any) -> Admission:
    return Admission(cast(Broker, broker), app_settings(flow.root, **settings))


def test_bronze_goes_on_where_the_topic_holds_what_comes_next(bronze: Flow, broker: OneTopic) -> None:
    broker.earliest, broker.end = {0: 40, 1: 0}, {0: 40, 1: 50}
    admission(bronze, broker).admit(bronze)


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
        admission(bronze, broker).admit(bronze)
    assert "FAIL_ON_DATA_LOSS=false" in str(error.value)
    admission(bronze, broker, fail_on_data_loss=False).admit(bronze)


def test_a_topic_made_again_is_refused_at_start_and_before_a_batch(bronze: Flow, broker: OneTopic) -> None:
    admitted = admission(bronze, broker).admit(bronze)
    admission(bronze, broker).check_same_topic(bronze, admitted)
    broker.id = "topic-2"
    with pytest.raises(ConfigError, match=RESET):
        admission(bronze, broker).admit(bronze)
    with pytest.raises(ConfigError, match=RESET):
        admission(bronze, broker).check_same_topic(bronze, admitted)


def test_a_reset_cut_short_keeps_every_flow_out(bronze: Flow, broker: OneTopic) -> None:
    restart.begin(bronze, {})
    for flow in bronze.with_downstream():
        with pytest.raises(ConfigError, match="make reset FEED=transactions"):
            admission(flow, broker).admit(flow)


def test_only_bronze_asks_the_broker(bronze: Flow) -> None:
    silver = bronze.downstream[1]
    assert Admission(cast(Broker, None), app_settings(bronze.root)).admit(silver) is None


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
    assert client_config(app_settings(tmp_path, kafka_bootstrap_servers="b:1")) == {
        "bootstrap.servers": "b:1",
        "security.protocol": "PLAINTEXT",
    }
    sasl = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "app", "sasl_password": "x"}
    config = client_config(app_settings(tmp_path, **{f"kafka_{name}": value for name, value in sasl.items()}))
    assert (config["sasl.mechanism"], config["sasl.username"], config["sasl.password"]) == ("PLAIN", "app", "x")


def test_a_new_sink_begins_with_what_is_left_and_says_so(
    bronze: Flow, broker: OneTopic, capsys: pytest.CaptureFixture[str]
) -> None:
    """RETENTION=prune deletes the oldest files; but what a sink has planned to read must be there."""
    logs.configure("text")
    files = [linked(bronze, batch) for batch in range(4)]
    for file in files[:2]:
        file.path.unlink()
    silver = Flow(bronze.feed, Layer.SILVER, bronze.root)
    admission(silver, broker).admit(silver)
    assert "transactions.silver begins with what is left: files up to batch 1 were deleted" in capsys.readouterr().err
    plan(silver, 0, {"batch": 1})
    with pytest.raises(ConfigError, match="bronze has lost the file of batch 1, which"):
        admission(silver, broker).admit(silver)
