"""Of what a column is made: what a kind says of its own, and lineage tells (sinks/lineage.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class How(StrEnum):
    """How a column is made of another, or decides on rows, in the words of OpenLineage."""

    IDENTITY = "IDENTITY"
    """It has the same value."""
    TRANSFORMATION = "TRANSFORMATION"
    """Its value is made of that of the same row."""
    AGGREGATION = "AGGREGATION"
    """Its value is made of those of many rows."""
    FILTER = "FILTER"
    """It decides whether there is a row."""
    GROUP_BY = "GROUP_BY"
    """Rows are counted by it."""
    WINDOW = "WINDOW"
    """It decides which window or session a row belongs to."""
    JOIN = "JOIN"
    """It is looked up."""
    SORT = "SORT"
    """It decides which rows are the first."""

    @property
    def is_direct(self) -> bool:
        """Whether values come from it."""
        return self in {How.IDENTITY, How.TRANSFORMATION, How.AGGREGATION}


@dataclass(frozen=True)
class Origin:
    """A column that another one, or a whole dataset, is made of."""

    column: str
    how: How
    lookup: str = ""
    """The lookup that has the column; "" for the upstream."""
    by: str = ""
    """What is done with it: the path in a record, or a function."""


Origins = tuple[Origin, ...]


def same(columns: Iterable[str]) -> dict[str, Origins]:
    """Return that columns are those of the upstream with the same names."""
    return {column: (Origin(column, How.IDENTITY),) for column in columns}


def deciding(how: How, columns: Iterable[str]) -> Origins:
    """Return that columns decide so."""
    return tuple(Origin(column, how) for column in columns)
