"""Feed files are checked, without broker or Spark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream_app.feeds.aggregates import Problem
from stream_app.feeds.feed import Feed
from stream_app.feeds.load import Mistake, feeds_in, read_feeds
from stream_app.sinks.registry import check
from stream_app.sources import lookups


@dataclass(frozen=True)
class Checked:
    """What came of a check."""

    feeds: tuple[str, ...]
    """The feeds that were looked at."""
    mistakes: tuple[Mistake, ...]
    """All mistakes of all files, in the order of the files."""


def feed_check(directory: Path, feed: str = "") -> Checked:
    """Return what is wrong with all feed files of a folder, or with the one of that feed, and with files of lookups."""
    feeds = (feed,) if feed else tuple(feeds_in(directory))

    def every(one: Feed, others: Sequence[Feed]) -> Iterator[Problem]:
        yield from check(one, others)
        yield from lookups.problems(one, directory)

    return Checked(feeds, read_feeds(directory, feeds, every)[1])
