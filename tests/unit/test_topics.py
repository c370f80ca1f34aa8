"""ops/topics.py: the topics that the service of Compose starts with; a stub stands in for the broker."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from stream_app.ops import topics
from tests.fakes import FakeAdmin
from tests.unit.conftest import Cli

Create = Callable[..., str]


@pytest.fixture
def create(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Create:
    """A function that creates the topics of both feeds on that broker, and returns what was printed."""
    monkeypatch.delenv("KAFKA_TOPIC", raising=False)

    def create(admin: FakeAdmin, *options: str, code: int = 0) -> str:
        monkeypatch.setattr(topics, "AdminClient", admin)
        settings = {"FEEDS": "transactions,user_activity", "KAFKA_BOOTSTRAP_SERVERS": "k:1"}
        done = cli(tmp_path, "topics", *options, **settings)
        assert admin.config["bootstrap.servers"] == "k:1"
        assert done.code == code
        return done.out + done.err

    return create


def test_what_feeds_read_and_write_is_created_and_what_exists_is_left_alone(create: Create) -> None:
    """Every topic of FEEDS exists afterwards, and a second run changes nothing."""
    admin = FakeAdmin("transactions", "another's")
    assert create(admin).splitlines() == [
        "topic enriched_activity: created, 3 partitions",
        "topic transactions: is there",
        "topic user_activity: created, 3 partitions",
    ]
    assert admin.partitions == {"enriched_activity": 3, "user_activity": 3}
    admin.partitions.clear()
    assert "created" not in create(admin)
    assert admin.partitions == {}


def test_the_producers_topic_is_created_too(create: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    """The producer finds its topic, even where no feed reads it."""
    monkeypatch.setenv("KAFKA_TOPIC", "elsewhere")
    admin = FakeAdmin()
    assert "topic elsewhere: created, 3 partitions" in create(admin)
    assert "elsewhere" in admin.partitions


def test_another_program_may_be_quicker(create: Create) -> None:
    """That the topic exists is all that counts, not who created it."""
    admin = FakeAdmin(refused={"user_activity": KafkaError.TOPIC_ALREADY_EXISTS})
    create(admin)
    assert set(admin.partitions) == {"enriched_activity", "transactions"}


def test_a_refusal_is_one_line_that_names_the_topic(create: Create) -> None:
    """The service does not start on a topic that is missing."""
    told = create(FakeAdmin(refused={"user_activity": KafkaError.POLICY_VIOLATION}), code=1)
    assert re.fullmatch(r"topics: topic user_activity cannot be made: [^\n]+\n", told)


def test_a_broker_that_is_still_starting_is_waited_for(create: Create) -> None:
    """The order in which containers start does not matter."""
    admin = FakeAdmin()
    admin.unanswered = 3
    create(admin)
    assert admin.unanswered == 0
    assert "transactions" in admin.partitions


def test_without_a_broker_it_ends_with_the_setting_that_may_be_wrong(
    create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wait is for ever."""
    monkeypatch.setattr(topics, "_PATIENCE_SECONDS", 0.0)
    admin = FakeAdmin()
    admin.unanswered = 1_000_000
    told = create(admin, code=1)
    assert re.fullmatch(r"topics: KAFKA_BOOTSTRAP_SERVERS: no answer from k:1 \([^\n]+\)\n", told)


def test_one_feed_s_topics_as_json(create: Create) -> None:
    admin = FakeAdmin("user_activity")
    assert json.loads(create(admin, "--feed=user_activity", "--format=json")) == [
        {"name": "enriched_activity", "partitions": 3},
        {"name": "user_activity", "partitions": None},
    ]
