"""What a run of the ETL took and made. With its file, `_runs/<number>.json`, the run is committed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stream_app.errors import ConfigError
from stream_app.landing.ranges import Ranges

FLOW = "etl"
"""What fail points call a run."""


@dataclass(frozen=True)
class Taken:
    """What the files of one feed came to in a run."""

    topic: str
    rules: str
    """By which version of the rules they were judged."""
    shape: str
    """The columns of the table, its time and its dedupe key, as a text that changes with them."""
    files: Mapping[str, Mapping[str, int]]
    """By path from the landing zone on: how many records, rows and quarantined records."""


@dataclass(frozen=True)
class Manifest:
    """What a run took and made, and what all runs up to it have taken."""

    run: int
    name: str
    began: str
    ended: str
    feeds: Mapping[str, Taken]
    days: Mapping[str, Sequence[str]]
    """By table, the days that it has written."""
    taken: Mapping[str, Mapping[str, Ranges]] = field(default_factory=dict)
    """By topic and version of the rules: the offsets that all runs up to this have taken."""
    pins: Mapping[str, Mapping[str, Ranges]] = field(default_factory=dict)
    """By topic and pin of reference data (storage/pins.py): the same offsets, of feeds with lookups."""
    shapes: Mapping[str, str] = field(default_factory=dict)
    """By feed: the shape of its table."""
    format: str = "parquet"
    """How the tables are kept: a name in FORMS (gold/store.py)."""
    gold: str = ""
    """What tables of delta know this gold by."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """By table: its columns, as Spark writes them in JSON."""


def loaded(path: Path) -> Manifest:
    """Return the manifest in a file. Raises ConfigError where it is damaged."""
    try:
        read: dict[str, Any] = json.loads(path.read_text())
        feeds = {name: Taken(**taken) for name, taken in read.pop("feeds").items()}
        taken, pins = _offsets(read.pop("taken")), _offsets(read.pop("pins", {}))
        return Manifest(feeds=feeds, taken=taken, pins=pins, **read)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path}: is damaged; it says what run {int(path.stem)} has taken") from None


def _offsets(read: Mapping[str, Any]) -> dict[str, dict[str, Ranges]]:
    return {topic: {one: _ranges(ranges) for one, ranges in own.items()} for topic, own in read.items()}


def _ranges(read: Mapping[str, list[list[int]]]) -> Ranges:
    return {int(partition): [(first, last) for first, last in own] for partition, own in read.items()}
