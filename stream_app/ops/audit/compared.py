"""A share of bronze's records, what silver and quarantine must have of them, and what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_app.feeds.growth import Columns
from stream_app.ops.audit.findings import Findings
from stream_app.ops.audit.grown import others, was_kept
from stream_app.ops.audit.places import Flags
from stream_app.ops.audit.stored import Held, Stored

PLACE = ["partition", "offset"]


@dataclass(frozen=True)
class Layer:
    """The rows of a layer, and where their places are saved."""

    stored: Stored
    places: Path
    since: int = 0
    """The first row of bronze whose row here must still be there: files of those before were pruned."""


@dataclass(frozen=True)
class Share:
    """What is judged at once: a row group of bronze. `first` is the number of its first row in all of bronze."""

    held: Held
    group: int
    first: int
    silver: bool
    """Whether silver has taken its batch."""
    quarantine: bool
    earlier: bool
    """Whether other rules than today's may have judged it: then where they differ is no mistake, and not audited."""


@dataclass
class JudgedShare:
    """What became of a share, or of several."""

    findings: Findings = field(default_factory=Findings)
    counts: Counter[str] = field(default_factory=Counter)
    absent: list[pa.Table] = field(default_factory=list)
    """The valid records that silver has no row of: `_row` of bronze, coordinates, `_key` as silver has it, `_again`."""

    def add(self, other: JudgedShare) -> None:
        """Add what became of another share."""
        self.findings.add(other.findings)
        self.counts.update(other.counts)
        self.absent += other.absent


@dataclass
class Compared:
    """Notes what differs in a share."""

    share: Share
    records: pa.Table
    judged: JudgedShare
    versions: Sequence[Columns]
    """Of silver, by which rows that earlier rules judged may have been made."""
    remade: Collection[str]
    """Columns of silver that some of these versions made of something else than the feed does now."""

    def wrong(self, what: str, which: Flags) -> None:
        """Note records that are wrong whatever the rules."""
        self.judged.findings.note(what, self._places(which))

    def by_rules(self, what: str, which: Flags) -> None:
        """Note records that today's rules would judge otherwise."""
        if self.share.earlier:
            self.judged.counts["earlier"] += int(which.sum())
        else:
            self.wrong(what, which)

    def still_there(self, layer: str, which: Flags, layers: Mapping[str, Layer]) -> Flags:
        """Which of those must still be in the layer, if they ever were; the others are counted."""
        due = self.share.first + np.arange(len(which)) >= layers[layer].since
        self.judged.counts[f"pruned from {layer}"] += int((which & ~due).sum())
        return which & due

    def whole_rows(self, what: str, expected: pa.Table, actual: pa.Table, which: Flags) -> None:
        """Note the rows that differ, each with the columns that do."""
        differ: dict[int, list[str]] = {}
        earlier = set[int]()
        versions, remade = (self.versions, self.remade) if self.share.earlier else ((), ())
        for name in actual.column_names:
            if not expected[name].equals(actual[name]):
                narrower = others(name, actual[name].type, versions)
                for row in np.flatnonzero(differing(expected[name], actual[name])).tolist():
                    if name in remade:
                        earlier.add(row)
                    elif not was_kept(expected[name][row], actual[name][row], narrower):
                        differ.setdefault(row, []).append(name)
        self.judged.counts["earlier"] += len(earlier - differ.keys())
        places = list(self._places(which)) if differ else []
        self.judged.findings.note(what, ((*places[row], " ".join(names)) for row, names in differ.items()))

    def absent(self, keys: pa.Array, which: Flags, *, again: bool) -> None:
        """Note records that silver has no row of, by their keys. `again`: they were replayed."""
        if len(keys):
            kept = self.records.select(PLACE).filter(pa.array(which))
            kept = kept.append_column("_row", pa.array(np.flatnonzero(which) + self.share.first))
            kept = kept.append_column("_key", keys)
            self.judged.absent.append(kept.append_column("_again", pa.array([again] * kept.num_rows)))

    def _places(self, which: Flags) -> Iterator[tuple[int, int]]:
        kept = self.records.select(PLACE).filter(pa.array(which))
        return zip(kept["partition"].to_pylist(), kept["offset"].to_pylist(), strict=True)


def differing(expected: pa.ChunkedArray, actual: pa.ChunkedArray) -> Flags:
    """Which values are not equal; null equals null alone."""
    if pa.types.is_nested(expected.type):
        pairs = zip(expected.to_pylist(), actual.to_pylist(), strict=True)
        return np.array([one != other for one, other in pairs], bool)
    nulls = pc.and_(expected.is_null(), actual.is_null())
    equal = pc.or_(pc.equal(expected, actual).fill_null(False), nulls)
    flags: Flags = pc.invert(equal).to_numpy()
    return flags


def spread(flags: Flags, which: Flags) -> Flags:
    """Return flags of the chosen as flags of all, false for the others."""
    spread = np.zeros(len(which), bool)
    spread[np.flatnonzero(which)[flags]] = True
    return spread
