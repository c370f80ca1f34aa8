"""A range of a partition's offsets, read by librdkafka; what of it cannot be read is found to the offset.

What librdkafka does was measured with 2.16.0 and read in its source. Of a producer's batch that it cannot read it tells
the first offset, and not the last. After a wrong CRC it goes on at a wrong place, so what follows is not to be trusted.
It also fetches the same batch again for ever. So the consumer is placed again after each such error. A broker answers
with the whole batch that holds an offset: to ask at one tells whether it is in the batch, and halving finds the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from stream_app.admission import topic_epochs
from stream_app.errors import StreamAppError, UnavailableError
from stream_app.flows.unread import Unread
from stream_app.kafka.log_cuts import cut_at
from stream_app.sources.messages import OffsetRange, by_event, error_of, offset_of, portions

PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.1
_ASK_SECONDS = 15.0
# Few enough for the processor's cache, and bounds on what a task holds of large ones.
_POLLED_RECORDS, _POLLED_BYTES = 2_000, 4 << 20
CONFIG = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "check.crcs": True,
    "auto.offset.reset": "error",
    # What a response, and a batch by zstd once it is decompressed, may have: as much as Kafka's protocol. The default
    # is 100 MB, and fails from 33 MB on: the size is guessed in steps of three.
    "receive.message.max.bytes": 2_147_483_647,
    # What is read ahead of need. A full queue is looked at again after a backoff, by default after a second.
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 16_384,
    "fetch.queue.backoff.ms": 5,
    # At the end of a partition a broker holds a request back until something comes, and with it those for the next one.
    "fetch.wait.max.ms": 1,
    # By which a stretch without records, as of an aborted transaction, is known from a broker that gives nothing.
    "statistics.interval.ms": 5_000,
    "log_level": 0,
}

_UNREADABLE = {
    KafkaError._BAD_MSG: "the batch is damaged (CRC)",
    KafkaError._BAD_COMPRESSION: "the batch cannot be decompressed",
    KafkaError._NOT_IMPLEMENTED: "the batch has an unknown format",
    KafkaError.INVALID_MSG: "the broker says that the batch is damaged",
}
"""Of a batch, whoever asks for it and whenever."""
_OUT_OF_RANGE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
_REFUSED = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}


class PartitionReader:
    """Reads ranges of a topic's partitions, one after the other."""

    def __init__(
        self,
        topic: str,
        config: dict[str, object],
        lose: Callable[[Unread], None],
        diverge: Callable[[OffsetRange, int], None],
    ) -> None:
        """Tell `lose` of each range that cannot be read, `diverge` of a log that is another one from an offset on.

        They raise, or the reading goes on without it.
        """
        self._topic = topic
        self._lose = lose
        self._diverge = diverge
        self._error: KafkaError | None = None
        self._fetched, self._heard = 0, 0.0
        callbacks = {"error_cb": self._on_error, "stats_cb": self._on_statistics}
        self._consumer = Consumer({**CONFIG, **config, **callbacks})

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def read(self, part: OffsetRange) -> Iterator[list[Message]]:
        """Yield the range's messages in order, some at a time.

        It waits for what passes while leaders move. Raises UnavailableError if nothing comes for PATIENCE_SECONDS.
        """
        at, polled, ended = part.start, 1, -1
        self._consumer.assign([topic_epochs.assigned(self._topic, part.partition, at, part.read)])
        self._heard = time.monotonic()
        while at < part.end:
            for came, event in by_event(self._consumer.consume(min(polled, part.end - at), _POLL_SECONDS)):
                if came:
                    self._heard, ended = time.monotonic(), -1
                    size = sum(len(message.value() or b"") for message in came)
                    polled = max(1, min(_POLLED_RECORDS, _POLLED_BYTES * len(came) // max(1, size)))
                    yield from portions(came, size, at, part.end)
                    at = max(at, offset_of(came[-1]) + 1)
                if event is None:
                    continue
                if error_of(event).code() == KafkaError._PARTITION_EOF:
                    at = ended = max(at, offset_of(event))
                elif self._breaks(event):
                    at = self._mended(part, at, event)
                    break  # what came after it is of a place that was left
            if at < part.end and time.monotonic() - self._heard > PATIENCE_SECONDS:
                if ended < 0 or self._is_undecided(part):
                    raise UnavailableError(self._silence(part, at))
                self._lose(Unread(part.partition, at, part.end, f"the partition ends at offset {ended}"))
                return

    def _place(self, part: OffsetRange, at: int) -> None:
        self._consumer.assign([TopicPartition(self._topic, part.partition, at)])

    def _breaks(self, event: Message) -> bool:
        """Whether we must take the reading up again; what librdkafka gets over by itself is noted."""
        error, code = error_of(event), error_of(event).code()
        if event.topic() is not None and code in _REFUSED:
            raise StreamAppError(f"topic {self._topic}: {error.str()}")
        if event.topic() is not None and code in _UNREADABLE.keys() | _OUT_OF_RANGE:
            return True
        if cut_at(error) is not None:
            return True
        self._error = error
        return False

    def _mended(self, part: OffsetRange, at: int, event: Message) -> int:
        """Where the reading goes on, once what cannot be read of the range from `at` on was told."""
        code, first, end = error_of(event).code(), at, part.end
        if (diverged := cut_at(error_of(event))) is not None:
            self._diverge(part, diverged)
            end = at
        elif code in _UNREADABLE:
            base = offset_of(event)
            # what lies between has no record
            first = base if at < base < part.end else at
            end, reason = self._end_of_batch(part, first, base), _UNREADABLE[code]
        else:
            low, high = self._bounds(part)
            reason = f"the partition ends at offset {high}"
            if at < low:
                end, reason = min(low, part.end), f"the partition begins at offset {low} by now"
            elif at <= high:  # its leader was behind for a moment
                end = at
        if end > first:
            self._lose(Unread(part.partition, first, end, reason))
            self._heard = time.monotonic()
        self._place(part, end)
        return end

    def _end_of_batch(self, part: OffsetRange, first: int, base: int) -> int:
        """Return the first offset behind the batch at `base`, which cannot be read.

        It is `first` if the batch can be read by now. Raises UnavailableError where no broker answers.
        """
        inside, outside, step = first - 1, part.end, 1
        while outside - inside > 1:
            asked = min(inside + step, (inside + outside) // 2)
            if self._is_unreadable(part, asked, base):
                inside, step = asked, step * 2
            else:
                outside = asked
        return outside

    def _is_unreadable(self, part: OffsetRange, at: int, base: int) -> bool:
        """Whether what comes first at an offset is the error of the batch at `base`."""
        self._place(part, at)
        since = time.monotonic()
        while time.monotonic() - since < PATIENCE_SECONDS:
            for event in self._consumer.consume(1, _POLL_SECONDS):
                error = event.error()
                if error is None or error.code() == KafkaError._PARTITION_EOF:
                    return False
                if self._breaks(event):
                    return error.code() in _UNREADABLE and offset_of(event) == base
        raise UnavailableError(self._silence(part, at))

    def _bounds(self, part: OffsetRange) -> tuple[int, int]:
        """Return the first offset that the partition holds, and the one that comes next.

        Raises UnavailableError where no broker answers.
        """
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, part.partition), _ASK_SECONDS)
        except KafkaException as error:
            self._error = error.args[0]
            raise UnavailableError(self._silence(part, part.start)) from None
        return low, high

    def _is_undecided(self, part: OffsetRange) -> bool:
        """Whether the partition holds the range, and ends for us before it since a transaction is open."""
        # as the last response told it: asked for, it would be the last stable offset
        place = TopicPartition(self._topic, part.partition)
        return self._consumer.get_watermark_offsets(place, cached=True)[1] >= part.end

    def _silence(self, part: OffsetRange, at: int) -> str:
        cause = f" ({self._error.str()})" if self._error else ""
        where = f"topic {self._topic}, partition {part.partition}, offsets {at} to {part.end - 1}"
        return f"{where}: nothing came for {PATIENCE_SECONDS:.0f} s{cause}"

    def _on_error(self, error: KafkaError) -> None:
        self._error = error

    def _on_statistics(self, statistics: str) -> None:
        """Count it as a sign of life that something was fetched, as of a transaction that was aborted."""
        topics = json.loads(statistics)["topics"]
        fetched = sum(part["next_offset"] for topic in topics.values() for part in topic["partitions"].values())
        if fetched != self._fetched:
            self._fetched, self._heard = fetched, time.monotonic()
