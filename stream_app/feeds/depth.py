"""How deep fields may nest: no deeper than what reads and compares rows can bear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

_MOST_STRUCTS = 32
"""Levels of structs in each other: delta-rs reads 40 in a table's log, and Arrow's messages have 63."""
_MOST_LEVELS, _MOST_LISTS = 16, 6
"""Levels, and arrays and maps among them. DuckDB 1.5.6 compares in 0.3 s then, and in minutes at 32 levels."""


class Nested(Protocol):
    """What may hold others of its kind: elements of an array, values of a map, fields of a struct."""

    @property
    def element(self) -> Nested | None:
        """What each element of an array is."""

    @property
    def value(self) -> Nested | None:
        """What each value of a map is."""

    @property
    def fields(self) -> Mapping[str, Nested] | None:
        """What a struct holds."""


def problems(fields: Mapping[str, Nested]) -> Iterator[tuple[str, str]]:
    """Yield (field, what is wrong) for those that nest too deep."""
    for name, field in fields.items():
        if problem := too_deep(field):
            yield name, f"{problem}; the inner ones may be json"


def too_deep(field: Nested) -> str | None:
    """Return how deep a field nests and how deep it may; None where it may."""
    levels, lists = _depth(field)
    if not lists and levels > _MOST_STRUCTS:
        return f"nests {levels} levels deep, and {_MOST_STRUCTS} are the most"
    if lists and (levels > _MOST_LEVELS or lists > _MOST_LISTS):
        found, most = f"{levels} levels deep with {lists} arrays and maps", f"{_MOST_LEVELS} with {_MOST_LISTS}"
        return f"nests {found} in each other, and {most} are the most"
    return None


def _depth(field: Nested) -> tuple[int, int]:
    """Return how many levels hold others from there on, and how many arrays and maps, each at most."""
    held = [*(field.fields or {}).values(), *filter(None, (field.element, field.value))]
    if not held:
        return 0, 0
    levels, lists = zip(*map(_depth, held), strict=True)
    return max(levels) + 1, max(lists) + bool(field.element or field.value)
