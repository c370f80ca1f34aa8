"""Feed files are checked, without broker or Spark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stream_app.feeds.load import Mistake, feeds_in, read_feeds
from stream_app.sinks.registry import check


@dataclass(frozen=True)
class Checked:
    """What came of a check."""

    feeds: tuple[str, ...]
    """The feeds that were looked at."""
    mistakes: tuple[Mistake, ...]
    """All mistakes of all files, in the order of the files."""


def feed_check(directory: Path, feed: str = "") -> Checked:
    """Return what is wrong with all feed files of a folder, or with the one of that feed."""
    feeds = (feed,) if feed else tuple(feeds_in(directory))
    return Checked(feeds, read_feeds(directory, feeds, check)[1])
