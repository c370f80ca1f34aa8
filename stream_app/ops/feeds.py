"""What feeds there are, and what each needs beside a broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream_app.flows.flow import Flow
from stream_app.sinks.protocol import sink_of


@dataclass(frozen=True)
class FeedSummary:
    """A feed in short."""

    name: str
    topic: str
    sinks: tuple[str, ...]
    """Upstream first."""
    needs_database: bool
    """Whether a sink of it is in PostgreSQL."""


def feeds(flows: Sequence[Flow]) -> tuple[FeedSummary, ...]:
    """Return the feeds of those flows, in their order."""
    by_feed: dict[str, list[Flow]] = {}
    for flow in flows:
        by_feed.setdefault(flow.feed.name, []).append(flow)
    return tuple(
        FeedSummary(
            name,
            own[0].feed.topic,
            tuple(flow.sink for flow in own),
            any(sink_of(flow).needs_database for flow in own),
        )
        for name, own in by_feed.items()
    )
