"""How rows are written: JSON, NDJSON, CSV or Arrow, as Accept asks, with money as text or as numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

import msgspec
import pyarrow as pa

from stream_app.api.problems import Problem
from stream_app.ops.rows import with_types
from stream_app.ops.selection import Page

Numbers = Literal["string", "float"]
LARGEST_BYTES = 16 << 20


@dataclass(frozen=True)
class Format:
    """A media type, and how a page is written in it."""

    media: str
    write: Callable[[Page, Numbers], bytes]


def chosen(accept: str) -> Format:
    """Return the format that an Accept header prefers. Raises Problem where none is known."""
    ranges = [(part.partition(";")[0].strip().lower() or "*/*", _quality(part)) for part in accept.split(",")]

    def liked(one: Format) -> tuple[float, int]:
        """Return how much, by the most specific range that names it, and of equals the first."""
        for wanted in (one.media, f"{one.media.partition('/')[0]}/*", "*/*"):
            for place, (media, quality) in enumerate(ranges):
                if media == wanted:
                    return quality, -place
        return 0, 0

    found = max(FORMATS.values(), key=liked)
    if not liked(found)[0]:
        raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"Accept: there are {', '.join(FORMATS)}")
    return found


def encode(value: object, numbers: Numbers = "string") -> bytes:
    """Return a value as JSON: decimals as texts that keep every digit, or as numbers; bytes in base64; times in UTC."""
    return (_FLOATS if numbers == "float" else _TEXTS).encode(value)


def _other(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


_TEXTS = msgspec.json.Encoder(enc_hook=_other)
_FLOATS = msgspec.json.Encoder(enc_hook=_other, decimal_format="number")


def _quality(part: str) -> float:
    _, _, given = part.partition("q=")
    try:
        return max(0.0, min(1.0, float(given.strip() or 1)))
    except ValueError:
        return 0


def _json(page: Page, numbers: Numbers) -> bytes:
    return encode({"rows": list(page.rows.records()), "next": page.next}, numbers)


def _ndjson(page: Page, numbers: Numbers) -> bytes:
    return b"".join(encode(row, numbers) + b"\n" for row in page.rows.records())


def _csv(page: Page, numbers: Numbers) -> bytes:
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(page.rows.table.column_names)
    for row in page.rows.records():
        writer.writerow([_cell(value, numbers) for value in row.values()])
    return written.getvalue().encode()


def _cell(value: Any, numbers: Numbers) -> object:
    """Return text as it is; what a spreadsheet would take for a formula has a quote before it, as in the CSV sink."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    shown = msgspec.json.decode(encode(value, numbers))
    text = shown if isinstance(shown, str) else encode(value, numbers).decode()
    return f"'{text}" if isinstance(value, str) and text[:1] in "=+-@\t\r" else text


def _arrow(page: Page, numbers: Numbers) -> bytes:
    table = page.rows.table
    if numbers == "float":
        table = with_types(table, lambda kind: pa.float64() if pa.types.is_decimal(kind) else kind)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


FORMATS: Mapping[str, Format] = {
    one.media: one
    for one in (
        Format("application/json", _json),
        Format("application/x-ndjson", _ndjson),
        Format("text/csv", _csv),
        Format("application/vnd.apache.arrow.stream", _arrow),
    )
}
