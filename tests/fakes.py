"""What stands in for a program that a unit test does not start."""

from collections.abc import Mapping
from concurrent.futures import Future
from types import SimpleNamespace

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import NewTopic


class FakeAdmin:
    """A broker that holds some topics and refuses to create others, by a code each. Stands in for AdminClient."""

    def __init__(self, *existing: str, refused: Mapping[str, int] | None = None) -> None:
        self.config: dict[str, object] = {}
        self.partitions: dict[str, int] = {}
        """Of the topics that were created."""
        self.unanswered = 0
        """How many questions it lets pass before it answers."""
        self._existing = set(existing)
        self._refused = refused or {}

    def __call__(self, config: dict[str, object]) -> "FakeAdmin":
        self.config = config
        return self

    def list_topics(self, timeout: float) -> SimpleNamespace:
        assert timeout <= 5
        if self.unanswered:
            self.unanswered -= 1
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return SimpleNamespace(topics=dict.fromkeys(self._existing))

    def create_topics(self, topics: list[NewTopic]) -> dict[str, "Future[None]"]:
        assert topics, "confluent_kafka refuses an empty list"
        made = {topic.topic: Future[None]() for topic in topics}
        for topic in topics:
            if topic.topic in self._refused:
                error = KafkaException(KafkaError(self._refused[topic.topic]))
                made[topic.topic].set_exception(error)
            else:
                made[topic.topic].set_result(None)
                self.partitions[topic.topic] = topic.num_partitions
                self._existing.add(topic.topic)
        return made
