"""Which snapshots of reference data each batch of bronze is judged by, as bronze's own files say for ever.

A batch is pinned when it is written, and its file appears whole or not at all. So whoever judges a record finds the
same snapshot, be it silver, quarantine, a replayed batch or the audit.

`pins` in a file's metadata are spans of rows (spans.py), each with a pin. A pin is a JSON object as text: the identity
of each lookup (feeds/lookups.py) and the hash of its snapshot (storage/snapshots.py). It is "" where a batch has none,
as of a feed without lookups. A merged file has an entry for each run of rows with one pin.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.storage import spans

NOTHING = ""
"""The pin of a batch that has none."""

_KEY = b"pins"


def pin(hashes: Mapping[str, str]) -> str:
    """Return the pin of those snapshots, by the identities of their lookups."""
    return json.dumps(dict(sorted(hashes.items())), separators=(",", ":")) if hashes else NOTHING


def hashes_of(one: str) -> dict[str, str]:
    """Return the hash of each snapshot that a pin names, by the identity of its lookup."""
    return dict(json.loads(one)) if one else {}


def pinned(one: str) -> dict[bytes, bytes]:
    """Return what the files of a batch say of its pin."""
    return spans.of_all_rows(_KEY, one) if one else {}


def merged(parts: Sequence[pq.FileMetaData]) -> dict[bytes, bytes]:
    """Return what a file says that holds the rows of those files; nothing if none of them says anything."""
    if not any(_KEY in (metadata.metadata or {}) for metadata in parts):
        return {}
    return spans.of_spans(_KEY, (span for metadata in parts for span in _spans(metadata)))


def named(metadata: pq.FileMetaData) -> Iterator[str]:
    """Yield the pins of a file's rows, the newest last."""
    return (one for _, one in _spans(metadata))


class Pins:
    """The pins of a file's rows."""

    def __init__(self, metadata: pq.FileMetaData) -> None:
        own = _spans(metadata)
        self._ends = spans.ends(own)
        # the last one is for rows behind the file's end
        self._pins = pa.array([*(one for _, one in own), NOTHING], pa.string())

    def of_rows(self, first: int, number: int) -> pa.DictionaryArray:
        """Return those of so many rows from row `first` on."""
        numbers = spans.number_of(self._ends, first, number)
        return pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), self._pins)


def _spans(metadata: pq.FileMetaData) -> list[spans.Span]:
    return spans.read(metadata, _KEY, NOTHING)
