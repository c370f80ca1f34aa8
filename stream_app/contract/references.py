"""Keys that must be in reference data, and the columns that this joins, by the snapshots that a batch is pinned to.

The fast path finds keys by binary search, the definition by a dictionary (storage/snapshots.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.contract.judgement import Judgement
from stream_app.contract.record import Group
from stream_app.errors import StreamAppError
from stream_app.feeds.feed import Feed
from stream_app.storage import pins, snapshots
from stream_app.storage.layout import FeedLayout
from stream_app.storage.snapshots import Opener, Snapshot

UNKNOWN_KEY = "unknown"
"""The reason of records whose key is in no row, before the path of the field."""
SnapshotOf = Callable[[str, str], Snapshot]
"""Returns the snapshot of a lookup, given by its name, that a pin names."""


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of a feed on disk, by their pins."""

    folder: Path
    first: Path
    identities: Mapping[str, str]
    """Each lookup, with what its snapshots are pinned by."""
    kind: Opener = Snapshot

    @classmethod
    def of(cls, feed: Feed, root: Path, kind: Opener = Snapshot) -> Snapshots | None:
        """Return those of a feed under OUTPUT_PATH; None for a feed without lookups."""
        if not feed.lookups:
            return None
        layout = FeedLayout(root.absolute(), feed.name)
        return cls(layout.lookups, layout.first_lookups, feed.pinned, kind)

    def __call__(self, lookup: str, pin: str) -> Snapshot:
        """Return the snapshot, or the first one of the declaration where the pin is from before that.

        Raises StreamAppError where there is none yet, or it is missing or damaged.
        """
        identity = self.identities[lookup]
        found = pins.hashes_of(pin).get(identity) or first_hashes(self.first).get(identity)
        if found is None:
            problem = f"lookups.{lookup}: no snapshot was taken yet of what the feed file declares"
            raise StreamAppError(f"{problem}; the service takes one when it starts")
        return snapshots.opened(self.folder, lookup, found, self.kind)


def first_hashes(path: Path) -> dict[str, str]:
    """Return the first snapshot of each declaration of a lookup, by its identity."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


class References:
    """The lookups of a feed."""

    def __init__(self, feed: Feed, snapshot_of: SnapshotOf) -> None:
        self._snapshot_of = snapshot_of
        self.fields = feed.references
        """Each field that is looked up, with its lookup."""
        self._types = {name: field.as_type for lookup in feed.lookups.values() for name, field in lookup.joined.items()}
        self._columns = {name: tuple(lookup.columns) for name, lookup in feed.lookups.items()}
        self._joined_by = {
            column: field for field, lookup in self.fields.items() for column in feed.lookups[lookup].columns
        }
        self._paths = {name: ".".join(feed.path_of(name)) for name in self.fields}

    def judge(self, record: Group, judged: Sequence[Judgement], by: Sequence[str]) -> None:
        """Add the joined columns to the rows, and keys that are unknown to the reasons. `by` has a pin for each.

        A field that is not valid has no key, and what is joined by it is not valid either.
        """
        found = [(one, pin) for one, pin in zip(judged, by, strict=True) if one.row]
        keys = {
            name: pa.array([None if name in one.invalid else one.row[i] for one, _ in found], node.arrow)
            for i, (name, node) in enumerate(record.named())
            if name in self.fields
        }
        unknown, joined = self.join(keys, pa.array([pin for _, pin in found], pa.string()))
        flags = {name: column.to_pylist() for name, column in unknown.items()}
        values = [_plain(column) for column in joined.values()]
        for place, (one, _) in enumerate(found):
            missing = [name for name in self.fields if flags[name][place]]
            one.reasons.update(dict.fromkeys(f"{UNKNOWN_KEY}:{self._paths[name]}" for name in missing))
            without = one.invalid.union(missing)
            one.invalid = without.union(column for column, name in self._joined_by.items() if name in without)
            one.row += [column[place] for column in values]

    def join(self, keys: Mapping[str, pa.Array], by: pa.Array) -> tuple[dict[str, pa.Array], dict[str, pa.Array]]:
        """Return which keys of each field are unknown, and the joined columns; null where a key is null or unknown.

        `keys` are those of each field of `fields`, in silver's types; `by` the pins of their records.
        """
        unknown: dict[str, pa.Array] = {}
        joined = {name: pa.nulls(len(by), kind.arrow) for name, kind in self._types.items()}
        by_pin = list(_by_pin(by))
        rows = [own for _, own in by_pin]
        for field, lookup in self.fields.items():
            parts = [self._part(lookup, keys[field].take(own), pin) for pin, own in by_pin]
            found = _together(rows, [known for known, _ in parts], pa.bool_())
            unknown[field] = pc.and_(keys[field].is_valid(), pc.invert(found))
            for i, column in enumerate(self._columns[lookup]):
                joined[column] = _together(rows, [columns[i] for _, columns in parts], self._types[column].arrow)
        return unknown, joined

    def _part(self, lookup: str, keys: pa.Array, pin: str) -> tuple[pa.Array, list[pa.Array]]:
        """Return which of these keys are there, and the columns that are joined."""
        snapshot = self._snapshot_of(lookup, pin)
        at = snapshot.find(keys)
        columns = [snapshot.rows[column].take(at).combine_chunks() for column in self._columns[lookup]]
        return at.is_valid(), columns


def _plain(column: pa.Array) -> list[Any]:
    """Return the values of a column as the contract's rows have them: times and dates as numbers."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return list((column.cast(pa.int32()) if pa.types.is_date32(column.type) else column).to_pylist())


def _by_pin(by: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Yield each pin with the numbers of its rows, in order; a batch has hardly ever more than one."""
    encoded = by if pa.types.is_dictionary(by.type) else by.dictionary_encode()
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    for one in np.unique(indices).tolist():
        yield encoded.dictionary[one].as_py(), pa.array(np.flatnonzero(indices == one))


def _together(rows: Sequence[pa.Array], values: Sequence[pa.Array], kind: pa.DataType) -> pa.Array:
    """Return the values of all rows in the order of the rows."""
    if len(rows) == 1:
        return values[0]
    order = pc.sort_indices(pa.concat_arrays([pa.array([], pa.int64()), *rows]))
    return pa.concat_arrays([pa.array([], kind), *values]).take(order)
