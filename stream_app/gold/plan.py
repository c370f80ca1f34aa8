"""Which landed files a run takes, and what it does with what gold has of them already. Pure but for the listing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce

from stream_app.errors import ConfigError
from stream_app.feeds.feed import Feed
from stream_app.flows.rules import version_of
from stream_app.gold.manifest import Manifest
from stream_app.landing.ranges import Ranges, joined, of_files, overlap, without
from stream_app.landing.zone import LandedFile, Zone
from stream_app.settings import Settings


@dataclass(frozen=True)
class Selection:
    """Which files a run is to take: all that no run has taken, or with limits or `full` all that match, again."""

    since: datetime | None = None
    """The first hour of landing."""
    until: datetime | None = None
    """The hour of landing after the last."""
    full: bool = False

    @property
    def takes_again(self) -> bool:
        """Whether it is about files that were taken before, too."""
        return self.full or self.since is not None or self.until is not None

    def covers(self, hour: datetime) -> bool:
        """Whether files of that hour match."""
        return (self.since is None or self.since <= hour) and (self.until is None or hour < self.until)


@dataclass(frozen=True)
class FeedPlan:
    """What a run takes of one feed."""

    feed: Feed
    files: Sequence[LandedFile]
    again: Ranges
    """The offsets of these that gold has taken before: its rows of them are replaced."""
    starts_anew: bool
    """Whether gold keeps nothing that it had of the feed."""


@dataclass(frozen=True)
class Plan:
    """What a run takes."""

    run: int
    feeds: Sequence[FeedPlan]
    before: Manifest | None = field(repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not any(one.files or one.starts_anew for one in self.feeds)

    def taken(self) -> dict[str, dict[str, Ranges]]:
        """Return what all runs have taken once this one is committed, by topic and version of the rules."""
        return self._offsets(
            self.before.taken if self.before else {}, {one.feed.name: version_of(one.feed) for one in self.feeds}
        )

    def pins(self, pins: Mapping[str, str]) -> dict[str, dict[str, Ranges]]:
        """Return the same by topic and pin of reference data, where this run judges by those, by feed."""
        own = {feed: pin for feed, pin in pins.items() if pin}
        return self._offsets(self.before.pins if self.before else {}, own)

    def _offsets(
        self, before: Mapping[str, Mapping[str, Ranges]], now_by: Mapping[str, str]
    ) -> dict[str, dict[str, Ranges]]:
        """Return offsets as before, and those of this run under what it judges each feed by."""
        found = {topic: dict(own) for topic, own in before.items()}
        for one in self.feeds:
            now = of_files(one.files)
            others = found.pop(one.feed.topic, {})
            kept = {by: rest for by, own in others.items() if (rest := without(own, now)) and not one.starts_anew}
            by = now_by.get(one.feed.name)
            if by is not None:
                kept[by] = joined(kept.get(by, {}), now)
            if kept:
                found[one.feed.topic] = kept
        return found


def plan(settings: Settings, feeds: Sequence[Feed], before: Manifest | None, selection: Selection) -> Plan:
    """Return what a run is to take of those feeds.

    Raises ConfigError where a table would have rows of two shapes, or where a full run would lose rows since files
    that were taken are gone.
    """
    found = [_of_feed(feed, Zone(settings.landing_path, feed.topic).files(), before, selection) for feed in feeds]
    return Plan(before.run + 1 if before else 1, [one for one in found if one.files or one.starts_anew], before)


def taken_of(before: Manifest | None, topic: str) -> Ranges:
    """Return the offsets of a topic that runs have taken, by whatever rules."""
    by_rules: Mapping[str, Ranges] = before.taken.get(topic, {}) if before else {}
    return reduce(joined, by_rules.values(), {})


def shape_of(feed: Feed) -> str:
    """Return what a feed's table depends on beside the rules: its columns, its time and its dedupe key."""
    columns = ", ".join(f"{name} {kind.name}" for name, kind in feed.columns.items())
    return (
        f"{columns}; by {feed.event_time.field}; once a {' and '.join(feed.dedupe.keys) if feed.dedupe else 'record'}"
    )


def _of_feed(feed: Feed, files: Sequence[LandedFile], before: Manifest | None, selection: Selection) -> FeedPlan:
    taken = taken_of(before, feed.topic)
    fresh: list[LandedFile] = []
    for file in files:
        own = of_files([file])
        held = overlap(own, taken)
        if not held:
            fresh.append(file)
        elif held != own:
            raise ConfigError(f"{file.path}: a part of its offsets was taken from another file; move it away")
    chosen = [file for file in files if selection.covers(file.hour)] if selection.takes_again else fresh
    if selection.full:
        if gone := without(taken, of_files(files)):
            problem = f"offsets {_shown(gone)} of topic {feed.topic} were taken from files that are gone"
            raise ConfigError(f"--full: {problem}; their rows would be lost; restore the files, or limit it by --since")
    elif chosen and before and before.shapes.get(feed.name, shape_of(feed)) != shape_of(feed):
        raise ConfigError(
            f"feed {feed.name}: its columns, time or dedupe key were changed; make its table anew by --full"
        )
    starts_anew = selection.full and bool(taken)
    return FeedPlan(feed, chosen, overlap(of_files(chosen), taken), starts_anew)


def _shown(ranges: Ranges) -> str:
    (partition, own), *_ = ranges.items()
    return f"{own[0][0]} to {own[0][1]} of partition {partition}"
