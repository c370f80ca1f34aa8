"""The folder of gold: plain Parquet in folders by day, of which a run changes all tables at once.

    user_events/event_date=2026-11-27/user_events_0000000007_00000.parquet       a table; its folder is a link
    _live                     a link to the newest version, which is what readers see of every table
    _versions/0000000007/     all tables as run 7 left them; files that it did not change are hard links
    _runs/0000000007.json     what run 7 took and made: the manifest. With it the run is committed
    _staging/                 what a run is about to make

A run prepares its version, then renames its manifest into place, then swaps `_live` by one rename. A run that died
before the manifest never was. One that died after it is completed by the next. The version before stays for readers
that have listed its files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stream_app.errors import ConfigError
from stream_app.failpoints import reach
from stream_app.landing.ranges import Ranges
from stream_app.storage.batch_files import replace_text, sync
from stream_app.storage.layout import staging

FLOW = "etl"
"""What fail points call a run."""
_RUN = re.compile(r"\d{10}")
_KEPT_VERSIONS = 2


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
    shapes: Mapping[str, str] = field(default_factory=dict)
    """By feed: the shape of its table."""


@dataclass(frozen=True)
class Gold:
    """The folder of gold."""

    root: Path

    @property
    def staging(self) -> Path:
        """What a run is about to make."""
        return staging(self.root)

    def version(self, run: int) -> Path:
        """Return the folder of all tables as that run left them."""
        return self.root / "_versions" / f"{run:010d}"

    def newest(self) -> Manifest | None:
        """Return the manifest of the newest committed run; None before the first."""
        runs = self.root / "_runs"
        found = sorted(path for path in runs.glob("*.json") if _RUN.fullmatch(path.stem)) if runs.is_dir() else []
        return _loaded(found[-1]) if found else None

    def recover(self) -> Manifest | None:
        """Complete the newest run, where it was committed and died, and clear away what was never committed.

        Return its manifest; None before the first run.
        """
        newest = self.newest()
        shutil.rmtree(self.staging, ignore_errors=True)
        if newest is None:
            shutil.rmtree(self.root / "_versions", ignore_errors=True)
            return None
        if not self.version(newest.run).is_dir():
            raise ConfigError(f"{self.version(newest.run)}: is missing, and run {newest.run} is committed; restore it")
        self._show(newest.run)
        for folder in (self.root / "_versions").iterdir():
            if _RUN.fullmatch(folder.name) and not newest.run - _KEPT_VERSIONS < int(folder.name) <= newest.run:
                shutil.rmtree(folder)
        return newest

    def commit(self, manifest: Manifest, version: Path) -> None:
        """Make a prepared version the one that readers see, with its manifest. A power cut does not take it back."""
        for path in sorted(version.rglob("*"), reverse=True):
            if path.is_dir() or path.stat().st_nlink == 1:  # a linked file was flushed by the run that wrote it
                sync(path)
        sync(version)
        final = self.version(manifest.run)
        final.parent.mkdir(exist_ok=True)
        version.rename(final)
        sync(final.parent)
        reach(FLOW, "prepared")
        runs = self.root / "_runs"
        runs.mkdir(exist_ok=True)
        replace_text(runs / f"{manifest.run:010d}.json", json.dumps(asdict(manifest), indent=1))
        reach(FLOW, "committed")
        self.recover()
        reach(FLOW, "shown")

    def _show(self, run: int) -> None:
        """Have every table's link lead to that version."""
        _link(self.root / "_live", Path("_versions", f"{run:010d}"))
        for table in self.version(run).iterdir():
            _link(self.root / table.name, Path("_live", table.name))


def link_files(source: Path, target: Path) -> None:
    """Have a folder hold the files of another, by hard links; by copies where the file system has none."""
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        try:
            os.link(path, target / path.name)
        except OSError:
            shutil.copy2(path, target / path.name)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    if link.exists() and not link.is_symlink():
        raise ConfigError(f"GOLD_PATH: {link} is in the way of a table of that name; move it away")
    partial = link.with_name(f"_{link.name}.link")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(link)
    sync(link.parent)


def _loaded(path: Path) -> Manifest:
    try:
        read: dict[str, Any] = json.loads(path.read_text())
        feeds = {name: Taken(**taken) for name, taken in read.pop("feeds").items()}
        taken = {
            topic: {rules: _ranges(own) for rules, own in by_rules.items()}
            for topic, by_rules in read.pop("taken").items()
        }
        return Manifest(feeds=feeds, taken=taken, **read)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path}: is damaged; it says what run {int(path.stem)} has taken") from None


def _ranges(read: Mapping[str, list[list[int]]]) -> Ranges:
    return {int(partition): [(first, last) for first, last in own] for partition, own in read.items()}
