"""Offsets by partition, as ranges: what runs have taken. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stream_app.landing.zone import LandedFile

Ranges = Mapping[int, list[tuple[int, int]]]
"""By partition the first and the last offset of each range, in order; no two meet."""


def of_files(files: Iterable[LandedFile]) -> Ranges:
    """Return the offsets that files hold."""
    return _merged((file.partition, file.first, file.last) for file in files)


def joined(one: Ranges, other: Ranges) -> Ranges:
    """Return what either holds."""
    return _merged([*_listed(one), *_listed(other)])


def without(one: Ranges, other: Ranges) -> Ranges:
    """Return what one holds and the other does not."""
    found = []
    for partition, first, last in _listed(one):
        at = first
        for start, end in other.get(partition, []):
            if end < at or start > last:
                continue
            found.append((partition, at, start - 1))
            at = end + 1
        found.append((partition, at, last))
    return _merged((partition, first, last) for partition, first, last in found if first <= last)


def overlap(one: Ranges, other: Ranges) -> Ranges:
    """Return what both hold."""
    return without(one, without(one, other))


def _listed(ranges: Ranges) -> list[tuple[int, int, int]]:
    return [(partition, first, last) for partition, own in ranges.items() for first, last in own]


def _merged(listed: Iterable[tuple[int, int, int]]) -> Ranges:
    found: dict[int, list[tuple[int, int]]] = {}
    for partition, first, last in sorted(listed):
        own = found.setdefault(partition, [])
        if own and first <= own[-1][1] + 1:
            own[-1] = own[-1][0], max(own[-1][1], last)
        else:
            own.append((first, last))
    return found
