"""The one place that talks to Kafka: sends messages, counts what became of them, stops cleanly."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException

from producer.client_options import for_librdkafka
from producer.faults import Kind, Message
from producer.log import Log
from producer.settings import Settings

DRAIN_SECONDS = 30.0  # for deliveries still under way at the end
STOP_SECONDS = 8.0  # the same after a signal: Docker kills after 10
TOPIC_SECONDS = 10.0  # for the topic to be created, before the broker may do it
METADATA_SECONDS = 2.0
SHORTEST_BACKOFF = 0.5
LONGEST_BACKOFF = 5.0
QUIET_SECONDS = 10.0  # between two log lines about trouble: librdkafka repeats itself
POLL_EVERY = 64  # messages between two looks at delivery reports, where nothing else waits for them
SLICE = 0.1  # the longest call into librdkafka, which lets no signal handler run meanwhile

Delivery = Callable[[KafkaError | None, Any], None]
Acknowledged = Callable[[int, int], None]
"""What is told the partition and the offset of each record, where Kafka said so."""


class Stop:
    """Whether someone asked for the end: a plain flag, as a signal handler must not wait for a lock."""

    requested = False
    signal = ""


class Client(Protocol):
    """What is used of confluent_kafka.Producer."""

    def produce(self, topic: str, value: bytes | None, key: str, *, on_delivery: Delivery, timestamp: int) -> None:
        """Queue a message; BufferError if the queue is full."""

    def poll(self, timeout: float) -> int:
        """Wait for events and run their callbacks."""

    def flush(self, timeout: float) -> int:
        """Send what is queued without lingering, and run callbacks, until nothing is left or time is up."""

    def purge(self) -> None:
        """Give up everything queued and under way."""

    def list_topics(self, topic: str | None, timeout: float) -> Any:
        """Ask the broker what topics it has, or for one of them; KafkaException without an answer."""

    def __len__(self) -> int:
        """Messages queued or under way, and reports not yet delivered."""


class PublishError(Exception):
    """Kafka refuses the client for good; the message is one line. Exit code 1."""


class Totals:
    """What was sent, and what became of it. After `Publisher.drain`, sent = acknowledged + failed."""

    def __init__(self) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.failed = 0
        self.kinds: Counter[Kind] = Counter()


def client_config(settings: Settings) -> dict[str, Any]:
    """Configure librdkafka: each record once and in order, in gzip batches unless told otherwise."""
    return {
        **settings.connection_config(),
        "client.id": "producer",
        "linger.ms": 50,
        "reconnect.backoff.max.ms": 2000,  # come back soon after the broker does
        "log_level": 0,  # what librdkafka has to say comes through error_cb, as lines of our own log
        **for_librdkafka(settings.kafka_client),
        "enable.idempotence": True,
        "compression.type": settings.kafka_compression,
    }


class Publisher:
    """Sends messages to one topic and counts their delivery reports.

    `connect` is confluent_kafka.Producer or a stand-in; it raises KafkaException for a wrong configuration.
    """

    def __init__(
        self,
        connect: Callable[[dict[str, Any]], Client],
        config: dict[str, Any],
        topic: str,
        stop: Stop,
        log: Log,
        acknowledged: Acknowledged | None = None,
    ) -> None:
        self.totals = Totals()
        self._acknowledged = acknowledged
        self._brokers = config["bootstrap.servers"]
        self._topic = topic
        self._stop = stop
        self._log = log
        self._trouble = ""
        self._quiet_until = 0.0
        self._connected = False
        self._kafka = connect({**config, "error_cb": self._on_error})
        self._report = self._on_delivery  # bound once: it goes along with every message

    def wait_for_topic(self) -> None:
        """Return when the broker answers and has the topic, or a stop is requested; say what is waited for."""
        waited_for, backoff, since = "", 0.0, 0.0
        while not self._stop.requested:
            # Who should create the topic has time for it. Then it is asked for by name, which makes the brokers
            # that create topics do so, with their own number of partitions.
            by_name = waited_for == "topic" and time.monotonic() - since > TOPIC_SECONDS
            missing = self._missing(self._topic if by_name else None)
            if not missing:
                break
            if missing != waited_for:
                waited_for, backoff, since = missing, SHORTEST_BACKOFF, time.monotonic()
            reason = self._trouble if missing == "broker" else f"there is no topic {self._topic}"
            again_in = f"{backoff:g}s"
            self._log(f"waiting for the {missing}", brokers=self._brokers, reason=reason, again_in=again_in)
            self._serve_for(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)
        self._connected = True

    def _missing(self, asked: str | None) -> str:
        try:
            topics = self._kafka.list_topics(asked, timeout=METADATA_SECONDS).topics
        except KafkaException as error:
            self._kafka.poll(0)  # lets error_cb tell the cause, which is better than "timed out"
            self._trouble = self._trouble or error.args[0].str()
            return "broker"
        return "" if self._topic in topics and topics[self._topic].error is None else "topic"

    def send(self, message: Message) -> bool:
        """Hand over a message, waiting while the client's queue is full; False if a stop came first.

        Raises PublishError if the client can send no more.
        """
        while not self._stop.requested:
            try:
                self._kafka.produce(
                    self._topic,
                    message.value,
                    message.key,
                    timestamp=message.timestamp_ms,
                    on_delivery=self._report,
                )
            except BufferError:
                self._kafka.poll(SLICE)
                continue
            except KafkaException as error:
                raise PublishError(error.args[0].str()) from error
            totals = self.totals
            totals.sent += 1
            totals.kinds[message.kind] += 1
            if not totals.sent % POLL_EVERY:
                self._kafka.poll(0)
            return True
        return False

    def serve(self, seconds: float) -> None:
        """Count delivery reports for at most this long, and never longer than a signal may wait."""
        self._kafka.poll(min(seconds, SLICE))

    def settle(self) -> None:
        """Return when everything sent was acknowledged or failed, or a stop is requested."""
        while len(self._kafka) and not self._stop.requested:
            self._kafka.flush(SLICE)

    def drain(self) -> None:
        """Wait a bounded time for the deliveries under way, then give up the rest, which counts as failed."""
        started = time.monotonic()
        while len(self._kafka):
            limit = STOP_SECONDS if self._stop.requested else DRAIN_SECONDS
            if time.monotonic() - started > limit:
                self._log("gave up", undelivered=len(self._kafka), after=f"{limit:g}s")
                self._kafka.purge()
                self._kafka.flush(1.0)
                break
            self._kafka.flush(SLICE)

    def _serve_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stop.requested and (left := end - time.monotonic()) > 0:
            self.serve(left)

    def _on_delivery(self, error: KafkaError | None, message: Any) -> None:
        if error is None:
            self.totals.acknowledged += 1
            # librdkafka knows no offset where it heard nothing of a record but that a later one was taken
            if self._acknowledged and message.offset() is not None:
                self._acknowledged(message.partition(), message.offset())
        else:
            self.totals.failed += 1
            self._warn("delivery failed", error)

    def _on_error(self, error: KafkaError) -> None:
        self._trouble = error.str()
        if self._connected:  # before, wait_for_topic tells it
            self._warn("broker trouble", error)

    def _warn(self, event: str, error: KafkaError) -> None:
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            self._log(event, reason=error.str())
