"""Which file of bronze a record is from, and what that says of itself: enough to make the file again.

A table that follows bronze keeps it beside each record. So bronze's own files may go (RETENTION=prune), and commands
that need them have them made again (ops/archive.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.feeds.schema import PROVENANCE
from stream_app.storage.batch_files import holds_range
from stream_app.storage.parquet import said_by


@dataclass(frozen=True)
class Provenance:
    """One file of bronze."""

    name: str
    says: str
    """What its metadata says, as JSON."""

    @classmethod
    def of(cls, name: str, metadata: pq.FileMetaData) -> Provenance:
        """Of the file of that name and metadata."""
        says = {key.decode(): value.decode() for key, value in said_by(metadata).items()}
        return cls(name, json.dumps(says, sort_keys=True))

    def of_rows(self, first: int, number: int) -> Iterator[tuple[str, pa.Array]]:
        """Yield the columns of PROVENANCE for so many of its records from number `first` on."""
        # of one batch the order of partition and offset is known
        places = pa.array(np.arange(first, first + number)) if holds_range(self.name) else pa.nulls(number, pa.int64())
        columns = _repeated(self.name, number), places, _repeated(self.says, number)
        return zip(PROVENANCE.names, columns, strict=True)


def said(says: str) -> Mapping[bytes, bytes]:
    """Return what a file said of itself, as its metadata had it."""
    return {key.encode(): value.encode() for key, value in json.loads(says).items()}


def _repeated(text: str, number: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(number, np.int32)), pa.array([text]))
