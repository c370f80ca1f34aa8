"""Where in the topic the records of a run are, for a program that looks for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from producer.publisher import Totals


class Ranges:
    """The offsets that were acknowledged, as ranges of each partition; many only where another producer sends, too."""

    def __init__(self) -> None:
        self._by_partition: dict[int, list[list[int]]] = {}

    def add(self, partition: int, offset: int) -> None:
        """Add an offset; those of a partition come in order."""
        ranges = self._by_partition.setdefault(partition, [])
        if ranges and ranges[-1][1] == offset - 1:
            ranges[-1][1] = offset
        else:
            ranges.append([offset, offset])

    @property
    def of_partitions(self) -> Mapping[int, Sequence[Sequence[int]]]:
        """The first and the last offset of each range, by partition."""
        return dict(sorted(self._by_partition.items()))


def summary(feed: str, topic: str, totals: Totals, ranges: Ranges) -> str:
    """Return the line of JSON that `--summary` prints last."""
    counts = {"sent": totals.sent, "acknowledged": totals.acknowledged, "failed": totals.failed}
    return json.dumps({"feed": feed, "topic": topic, **counts, "offsets": ranges.of_partitions})
