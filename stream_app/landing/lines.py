r"""The lines of a landed file: one a record, as JSON, with the value as it came.

    {"partition":0,"offset":17,"kafka_ms":1763683200000,"landed_ms":1763686800000,"key":"u-1","headers":null,
     "value":"{\"event_id\": ...}"}

`value` and `key` are text. Where they are no UTF-8 they are null, and `value_base64` or `key_base64` has them; so have
the values of headers. The contract judges exactly the bytes of the topic.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import zstandard
from confluent_kafka import Message
from msgspec import UNSET, UnsetType

from stream_app.errors import StreamAppError
from stream_app.landing.zone import LandedFile

_CHUNK = 4 << 20


class Header(msgspec.Struct, omit_defaults=True):
    """A header of a record."""

    key: str
    value: str | None
    value_base64: str | UnsetType = UNSET


class Line(msgspec.Struct, omit_defaults=True):
    """A record."""

    partition: int
    offset: int
    kafka_ms: int
    """Kafka's timestamp, in milliseconds since the epoch. A client may have given any."""
    landed_ms: int
    """When the run looked where the topic ends; no record of it came later. `future` is judged by the earlier time."""
    key: str | None
    headers: list[Header] | None
    value: str | None
    value_base64: str | UnsetType = UNSET
    key_base64: str | UnsetType = UNSET

    @property
    def value_bytes(self) -> bytes | None:
        """The value as it came."""
        return _bytes(self.value, self.value_base64)

    @property
    def key_bytes(self) -> bytes | None:
        """The key as it came."""
        return _bytes(self.key, self.key_base64)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


def encoded(messages: Sequence[Message], landed_ms: int) -> bytes:
    """Return the lines of consumed messages, each with its line feed."""
    return _encoder.encode_lines([line_of(message, landed_ms) for message in messages])


def line_of(message: Message, landed_ms: int) -> Line:
    """Return the line of a consumed message."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None  # noqa: S101 - it was consumed
    assert offset is not None  # noqa: S101
    value, value_base64 = _text(message.value())
    key, key_base64 = _text(message.key())
    headers, time = _headers(message), message.timestamp()[1]
    return Line(partition, offset, time, landed_ms, key, headers, value, value_base64, key_base64)


def read(file: LandedFile) -> Iterator[list[Line]]:
    """Yield the lines of a landed file, some megabytes of them at a time.

    Raises StreamAppError where the file is not what was written, or does not hold what its name says.
    """
    at = file.first - 1
    for lines in _decoded(file.path):
        for line in lines:
            if line.partition != file.partition or not at < line.offset <= file.last or (at < file.first < line.offset):
                found = f"partition {line.partition}, offset {line.offset}"
                raise StreamAppError(f"{file.path}: holds {found}, unlike its name")
            at = line.offset
        yield lines
    if at != file.last:
        raise StreamAppError(f"{file.path}: is damaged: it ends at offset {at}")


def _decoded(path: Path) -> Iterator[list[Line]]:
    rest = b""
    try:
        with pa.input_stream(str(path), compression="zstd") as stream:
            while chunk := stream.read(_CHUNK):
                lines, feed, rest = (rest + chunk).rpartition(b"\n")
                if feed:
                    yield _decoder.decode_lines(lines)
    except (msgspec.MsgspecError, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file, not what it holds
        raise StreamAppError(f"{path}: is damaged: {' '.join(str(error).split())}") from None
    if rest:
        raise StreamAppError(f"{path}: is damaged: it ends within a line")


class Writer:
    """Writes lines to a new file, compressed by zstd, with a checksum that its readers check."""

    def __init__(self, path: Path) -> None:
        # its lightest level: JSON shrinks to a sixth, at a fraction of what it costs to consume it
        compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self._stream = compressor.stream_writer(path.open("wb"))

    def write(self, lines: bytes) -> None:
        """Append whole lines."""
        self._stream.write(lines)

    def close(self) -> None:
        """Finish the file."""
        self._stream.close()  # type: ignore[no-untyped-call] # and the file


def _text(value: bytes | str | None) -> tuple[str | None, str | UnsetType]:
    """Return bytes as text, or as none and their base64."""
    if value is None or isinstance(value, str):
        return value, UNSET
    try:
        return value.decode(), UNSET
    except UnicodeDecodeError:
        return None, b64encode(value).decode()


def _bytes(text: str | None, base64: str | UnsetType) -> bytes | None:
    if base64 is not UNSET:
        return b64decode(base64)
    return None if text is None else text.encode()


def _headers(message: Message) -> list[Header] | None:
    try:
        found = message.headers()
    except SystemError:  # a header's name is not UTF-8: confluent-kafka cannot show any of them
        return None
    if found is None:
        return None
    named = found.items() if isinstance(found, dict) else found
    return [Header(name, *_text(value)) for name, value in named]
