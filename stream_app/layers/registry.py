"""The kinds of datasets: the only place that lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stream_app.feeds.feed import Feed
from stream_app.layers.bronze import Bronze
from stream_app.layers.kind import BRONZE, QUARANTINE, SILVER, Kind
from stream_app.layers.quarantine import Quarantine
from stream_app.layers.sessions import Sessions
from stream_app.layers.silver import Silver
from stream_app.layers.totals import Totals
from stream_app.layers.windows import Windows

# Upstream first: each kind, and the names of the datasets of it that a feed has.
KINDS: tuple[tuple[Callable[[Feed, str], Kind], Callable[[Feed], Iterable[str]]], ...] = (
    (Bronze, lambda _feed: [BRONZE]),
    (Quarantine, lambda _feed: [QUARANTINE]),
    (Silver, lambda _feed: [SILVER]),
    (Windows, lambda feed: feed.windows),
    (Sessions, lambda feed: feed.sessions),
    (Totals, lambda feed: feed.totals),
)


def datasets(feed: Feed) -> dict[str, Kind]:
    """Return the datasets of a feed by their names, upstream first."""
    return {name: kind(feed, name) for kind, names in KINDS for name in names(feed)}
