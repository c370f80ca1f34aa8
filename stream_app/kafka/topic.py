"""A topic as the broker tells of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A topic as it is now. A topic that was deleted and made again has another id."""

    name: str
    id: str
    partitions: tuple[int, ...]
