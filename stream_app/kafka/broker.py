"""What we ask the broker ourselves, beside what Spark reads: topic ids, the offsets that exist, missing topics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from stream_app import logs
from stream_app.errors import ConfigError, StreamAppError, UnavailableError
from stream_app.kafka.client import check, client_config
from stream_app.kafka.connection import KafkaConnection, OAuth
from stream_app.kafka.log_cuts import log_cuts
from stream_app.kafka.refusal import refusal
from stream_app.kafka.topic import Topic

Answer = TypeVar("Answer")
PARTITIONS = 3
"""Of the topics that we create."""
_TIMEOUT_SECONDS = 15.0
_ASK_AGAIN_SECONDS = 0.5
# No broker will take back what it says by these. All else passes: leaders move, and a broker knows of a topic late.
_FINAL = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
}
# What an answer says while a partition is new or changes its leader: it passes in seconds, so nobody needs to see it.
_LEADER_MOVES = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
}
_GROUP_IN_USE = {
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.NON_EMPTY_GROUP,
}
# librdkafka asks the broker that it knows as controller. If that one has gone, it learns of another after five minutes
# (topic.metadata.refresh.interval.ms); a new client learns at once.
_UNANSWERED = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}


def create_missing(admin: AdminClient, existing: set[str], topics: Iterable[str]) -> list[str]:
    """Create the topics that do not exist, replicated as the broker does by default; return them.

    Raises StreamAppError where the broker refuses one.
    """
    missing = [topic for topic in topics if topic not in existing]
    if not missing:
        return []
    for topic, created in admin.create_topics([NewTopic(topic, PARTITIONS) for topic in missing]).items():
        try:
            created.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another program of ours was quicker
                raise StreamAppError(f"topic {topic} cannot be made: {error.args[0].str()}") from None
    return missing


class Broker:
    """A connection for questions; it opens when the first one is asked."""

    def __init__(
        self,
        kafka: KafkaConnection,
        timeout_seconds: float = _TIMEOUT_SECONDS,
        patience_seconds: float = 0.0,
        named_by: str = "the feed's `topic`",
    ) -> None:
        """Wait for an answer for `timeout_seconds`, and ask again for `patience_seconds` what may pass.

        While a leader moves, ask again for `timeout_seconds` at least.
        `named_by` is where a topic's name comes from: what to correct where there is no such topic.
        Raise ConfigError where a certificate is not to be used.
        """
        check(kafka)
        self._timeout, self._patience, self._named_by = timeout_seconds, patience_seconds, named_by
        self._isolation = IsolationLevel[kafka.isolation_level.upper()]
        self._kafka = kafka
        self._refusal: StreamAppError | None = None
        """Why we are not let in: an answer that does not come does not say."""
        # librdkafka logs each failed connection; what matters of that is in the errors below.
        self._config: dict[str, Any] = {"log_level": 0, **client_config(kafka), "error_cb": self._on_error}
        self._admin = AdminClient(self._config)

    def topic(self, name: str) -> Topic:
        """Return the topic. Raises ConfigError where there is none, UnavailableError where no broker answers."""
        return self._patiently(name, lambda: self._topic(name))

    def wait_for_topic(self, name: str, patience_seconds: float) -> Topic:
        """Return the topic once a broker answers and it exists; after `patience_seconds` raise the last error."""
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                return self._topic(name)
            except KafkaException as failed:
                error = self._explain(name, failed)
                if time.monotonic() > deadline:
                    raise error from None
                logs.info(f"waiting for Kafka: {error}")
                time.sleep(2)

    def nodes(self) -> int:
        """Return how many brokers are up. Raises UnavailableError where none answers."""

        def ask() -> int:
            return len(self._admin.describe_cluster(request_timeout=self._timeout).result().nodes)

        return self._patiently("", ask)

    def earliest_offsets(self, topic: Topic) -> dict[int, int]:
        """Return the first offset that each partition still holds."""
        return self._offsets(topic, OffsetSpec.earliest())

    def end_offsets(self, topic: Topic) -> dict[int, int]:
        """Return the offset that each partition's next record will have."""
        return self._offsets(topic, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)

    def stable_offsets(self, topic: Topic) -> dict[int, int]:
        """How far each partition can be read now: with read_committed to the first transaction that is open."""
        return self._offsets(topic, OffsetSpec.latest(), self._isolation)

    def offsets_at(self, topic: Topic, time_ms: int) -> dict[int, int]:
        """Return each partition's first offset that is not older than that time; its end where there is none."""
        found, ends = self._offsets(topic, OffsetSpec.for_timestamp(time_ms)), self.end_offsets(topic)
        return {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}

    def log_cuts(self, group: str, read: Sequence[TopicPartition]) -> dict[int, int]:
        """Where the logs of partitions of one topic were cut before what was read of them; none of those away."""
        return log_cuts(self._kafka, group, read) if read else {}

    def largest_batch(self, topic: str) -> int | None:
        """Return how many bytes of a producer's batch the topic takes; None where the broker does not tell us."""
        asked = ConfigResource(ResourceType.TOPIC, topic)
        try:
            admin = self._admin
            found = admin.describe_configs([asked], request_timeout=self._timeout)[asked].result()
        except KafkaException:  # to ask takes a right of its own
            return None
        return int(found["max.message.bytes"].value)

    def set_group_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Set what a consumer group has consumed of the topic. Raises StreamAppError where the broker refuses."""
        partitions = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        asked = [ConsumerGroupTopicPartitions(group, partitions)]
        try:
            admin = self._admin
            admin.alter_consumer_group_offsets(asked, request_timeout=self._timeout)[group].result()
        except KafkaException as error:
            if error.args[0].code() in _GROUP_IN_USE:
                problem = f"consumer group {group} is in use by another program ({error.args[0].str()})"
                raise StreamAppError(problem) from None
            raise self._explain(topic, error) from None

    def group_offsets(self, group: str, topic: Topic) -> dict[int, int]:
        """Return what a consumer group has committed of the topic, by partition; none of a partition without it."""
        places = [TopicPartition(topic.name, partition) for partition in topic.partitions]
        asked = [ConsumerGroupTopicPartitions(group, places)]

        def ask() -> dict[int, int]:
            admin = self._admin
            found = admin.list_consumer_group_offsets(asked, request_timeout=self._timeout)[group].result()
            return {place.partition: place.offset for place in found.topic_partitions if place.offset >= 0}

        return self._patiently(topic.name, ask)

    def group_members(self, group: str, topic: Topic) -> list[str]:
        """Return the client and the host of each member that a consumer group has now."""

        def ask() -> list[str]:
            admin = self._admin
            found = admin.describe_consumer_groups([group], request_timeout=self._timeout)[group].result()
            return [f"{member.client_id} at {member.host}" for member in found.members]

        return self._patiently(topic.name, ask)

    def _topic(self, name: str) -> Topic:
        admin = self._admin  # held until it has answered: another thread may replace it
        found = admin.describe_topics(TopicCollection([name]), request_timeout=self._timeout)[name].result()
        return Topic(name, str(found.topic_id), tuple(sorted(partition.id for partition in found.partitions)))

    def _offsets(
        self, topic: Topic, spec: OffsetSpec, isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[int, int]:
        asked = {TopicPartition(topic.name, partition): spec for partition in topic.partitions}

        def ask() -> dict[int, int]:
            admin = self._admin
            futures = admin.list_offsets(asked, isolation_level=isolation, request_timeout=self._timeout)
            return {partition.partition: future.result().offset for partition, future in futures.items()}

        return self._patiently(topic.name, ask)

    def _patiently(self, topic: str, ask: Callable[[], Answer]) -> Answer:
        """Ask again what may pass, for the patience that this connection was made with."""
        began = time.monotonic()
        while True:
            try:
                return ask()
            except KafkaException as error:
                explained = self._explain(topic, error)
                code = error.args[0].code()
                patience = max(self._patience, self._timeout) if code in _LEADER_MOVES else self._patience
                if code in _FINAL or time.monotonic() - began >= patience:
                    raise explained from None
            time.sleep(_ASK_AGAIN_SECONDS)

    def _on_error(self, error: KafkaError) -> None:
        self._refusal = refusal(self._kafka, error) or self._refusal

    def _explain(self, topic: str, error: KafkaException) -> StreamAppError:
        cause, servers = error.args[0], self._kafka.bootstrap_servers
        self._admin.poll(0)  # which calls _on_error
        if self._refusal:
            refused, self._refusal = self._refusal, None
            return refused
        if cause.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return ConfigError(f"there is no topic {topic} at {servers}; create it, or correct {self._named_by}")
        if cause.code() in _UNANSWERED:
            self._admin = AdminClient(self._config)
        if isinstance(self._kafka.login, OAuth):  # librdkafka tells of a server that is away after a minute, if at all
            servers = f"{servers}, or {self._kafka.login.token_endpoint_url} gives us no token"
        kind = StreamAppError if cause.code() in _FINAL else UnavailableError
        return kind(
            f"KAFKA_BOOTSTRAP_SERVERS: no answer from {servers} ({cause.str()}); "
            "start the broker (make broker, make up) or correct the setting"
        )
