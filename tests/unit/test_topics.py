"""ops/topics.py: the topics that the service of Compose starts with; a stub stands in for the broker."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from stream_app.errors import StreamAppError
from stream_app.feeds.load import load_feeds
from stream_app.flows.flow import flows
from stream_app.ops import topics
from stream_app.settings import PROJECT
from tests.fakes import FakeAdmin
from tests.helpers import app_settings

Create = Callable[[FakeAdmin], str]


@pytest.fixture
def create(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Create:
    """A function that creates the topics of both feeds on that broker, and returns what was printed."""
    monkeypatch.delenv("KAFKA_TOPIC", raising=False)
    made = flows(load_feeds(PROJECT / "conf" / "feeds", ["transactions", "user_activity"]), tmp_path)
    settings = app_settings(tmp_path, kafka_bootstrap_servers="k:1")

    def create(admin: FakeAdmin) -> str:
        monkeypatch.setattr(topics, "AdminClient", admin)
        assert topics.topics(settings, made) == 0
        assert admin.config["bootstrap.servers"] == "k:1"
        return capsys.readouterr().out

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
    with pytest.raises(StreamAppError, match=r"^topic user_activity cannot be made: [^\n]+$"):
        create(FakeAdmin(refused={"user_activity": KafkaError.POLICY_VIOLATION}))


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
    with pytest.raises(StreamAppError, match=r"^KAFKA_BOOTSTRAP_SERVERS: no answer from k:1 \([^\n]+\)$"):
        create(admin)
