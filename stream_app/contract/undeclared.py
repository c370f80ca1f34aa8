"""Members of records that no field is declared for: how many records have each, and one sample. Pure."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

MOST_PATHS = 200
"""How many paths are told apart: names are the client's, who may send any number of them."""
OTHERS = "…"
"""The name under which all paths beyond MOST_PATHS are counted."""
UNKNOWN = "unknown_field"
"""The reason of records with such members, before their paths."""
_LONGEST = 200


@dataclass
class Undeclared:
    """Counts by path; bounded in number and in size, whatever the names are."""

    counts: Counter[str] = field(default_factory=Counter)
    """Path -> records that have it."""
    samples: dict[str, str] = field(default_factory=dict)
    """Path -> the first value seen, as JSON; cut where it is long."""

    def add(self, found: dict[str, Any]) -> None:
        """Count what one record has."""
        for path, value in found.items():
            shown = short(path)
            if self._has_room_for(shown):
                self.counts[shown] += 1
                if shown not in self.samples:
                    self.samples[shown] = short(json.dumps(value, ensure_ascii=False, default=str))
            else:
                self.counts[OTHERS] += 1

    def merge(self, other: Undeclared) -> None:
        """Add what another has counted."""
        for path, count in other.counts.items():
            self.counts[path if self._has_room_for(path) else OTHERS] += count
            if path in self.counts and path in other.samples:
                self.samples.setdefault(path, other.samples[path])

    def dumped(self) -> str:
        """Return it as text, for `loaded`."""
        return json.dumps([self.counts, self.samples])

    @classmethod
    def loaded(cls, text: str) -> Undeclared:
        """Return what `dumped` has made a text of."""
        counts, samples = json.loads(text)
        return cls(Counter(counts), samples)

    def _has_room_for(self, path: str) -> bool:
        return path in self.counts or len(self.counts) < MOST_PATHS


def counted(reason: str) -> str:
    """Return the reason as metrics count it: without the names of fields that clients made up."""
    return UNKNOWN if reason.startswith(f"{UNKNOWN}:") else reason


def short(text: str) -> str:
    """Return a text of a client, cut where it is long, with U+FFFD for what is no character."""
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}{OTHERS}"
    return cut.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
