"""What the audit found: by kind of mistake how many, and the first of them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import duckdb

Example = tuple[object, ...]
_EXAMPLES = 20


@dataclass
class Findings:
    """Records or rows that should not be, or should be otherwise."""

    counts: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, list[Example]] = field(default_factory=dict)

    def note(self, kind: str, examples: Iterable[Example]) -> None:
        """Note things of one kind."""
        found = list(examples)
        if found:
            self._add(kind, len(found), found)

    def query(self, database: duckdb.DuckDBPyConnection, kind: str, sql: str) -> None:
        """Note the rows that a query finds."""
        ((count,),) = database.sql(f"SELECT count(*) FROM ({sql})").fetchall()
        if count:
            self._add(kind, count, database.sql(f"FROM ({sql}) ORDER BY ALL LIMIT {_EXAMPLES}").fetchall())

    def add(self, other: Findings) -> None:
        """Note what another one has."""
        for kind, count in other.counts.items():
            self._add(kind, count, other._examples[kind])

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield how many there are of each kind, and a line that names the first."""
        for kind, count in self.counts.items():
            yield count, f"{kind}: {count:,}, {', '.join(map(_shown, self._examples[kind]))}"

    def _add(self, kind: str, count: int, examples: list[Example]) -> None:
        self.counts[kind] += count
        self._examples[kind] = heapq.nsmallest(_EXAMPLES, [*self._examples.get(kind, []), *examples], key=_order)


def _order(example: Example) -> tuple[tuple[bool, object], ...]:
    # what is null goes last, and is not compared with what is not; structs have no order
    shown = (repr(part) if isinstance(part, dict | list) else part for part in example)
    return tuple((part is None, "" if part is None else part) for part in shown)


def _shown(example: Example) -> str:
    return "(" + ", ".join(map(str, example)) + ")"
