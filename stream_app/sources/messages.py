"""Messages of librdkafka, and what comes in place of one; the offsets that they are asked by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import KafkaError, Message

from stream_app.admission.topic_epochs import Position

# Above this, where sizes leapt, they are handed on one by one: Arrow's arrays hold 2 GB, and their copy takes as much.
_HELD_BYTES = 64 << 20


@dataclass(frozen=True)
class OffsetRange:
    """Offsets of a partition, from `start` up to and without `end`."""

    partition: int
    start: int
    end: int
    read: Position | None = None
    """What was read before `start`, where the range is the first of its partition."""

    @property
    def offsets(self) -> int:
        """How many these are."""
        return self.end - self.start


def by_event(found: list[Message]) -> Iterator[tuple[list[Message], Message | None]]:
    """Yield messages, each time with what came in place of one after them."""
    after = 0
    for place, message in enumerate(found):
        if message.error() is not None:
            yield found[after:place], message
            after = place + 1
    yield found[after:], None


def portions(came: list[Message], size: int, start: int, end: int) -> Iterator[list[Message]]:
    """Yield the messages of an offset range in portions that fit into memory.

    Together they have `size` bytes. Where these are too many, each message comes alone.
    """
    if offset_of(came[0]) < start or offset_of(came[-1]) >= end:  # a gap may hide the end
        came = [message for message in came if start <= offset_of(message) < end]
    if size <= _HELD_BYTES:
        yield from [came] if came else []
    else:
        yield from ([message] for message in came)


def error_of(event: Message) -> KafkaError:
    """Return the error that came in place of a message."""
    error = event.error()
    assert error is not None  # noqa: S101 - it is an event
    return error


def offset_of(message: Message) -> int:
    """Return the offset of a message, or of what came in place of one."""
    offset = message.offset()
    assert offset is not None  # noqa: S101 - of a message that was not consumed
    return offset
