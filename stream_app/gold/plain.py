"""Tables as plain Parquet: a run changes all of them at once.

    user_events/event_date=2026-11-27/user_events_0000000007_00000.parquet       a table; its folder is a link
    _live                     a link to the newest version, which is what readers see of every table
    _versions/0000000007/     all tables as run 7 left them; files that it did not change are hard links

A run prepares its version, then renames its manifest into place, then swaps `_live` by one rename. The version before
stays for readers that have listed its files.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from stream_app.errors import ConfigError
from stream_app.gold.files import tables_in
from stream_app.gold.manifest import Manifest
from stream_app.storage.batch_files import partitions, sync

VERSIONS = "_versions"
_RUN = re.compile(r"\d{10}")
_KEPT_VERSIONS = 2


@dataclass(frozen=True)
class Plain:
    """Plain Parquet (gold/form.py)."""

    root: Path

    def version(self, run: int) -> Path:
        """Return the folder of all tables as that run left them."""
        return self.root / VERSIONS / f"{run:010d}"

    def before(self, newest: Manifest) -> Path:
        """Return the newest version, whose files never change."""
        return self.version(newest.run)

    def prepare(self, manifest: Manifest, version: Path) -> None:
        """Flush the version, and give it its name. Raises ConfigError where a table's link has something in its way."""
        for table in version.iterdir():
            _admit(self.root / table.name)
        for path in sorted(version.rglob("*"), reverse=True):
            if path.is_dir() or path.stat().st_nlink == 1:  # a linked file was flushed by the run that wrote it
                sync(path)
        sync(version)
        final = self.version(manifest.run)
        final.parent.mkdir(exist_ok=True)
        version.rename(final)
        sync(final.parent)

    def show(self, newest: Manifest) -> None:
        """Have every table's link lead to the newest version, and delete versions that no reader is at any more."""
        version = self.version(newest.run)
        if not version.is_dir():
            raise ConfigError(f"{version}: is missing, and run {newest.run} is committed; restore it")
        _link(self.root / "_live", Path(VERSIONS, version.name))
        for table in version.iterdir():
            _link(self.root / table.name, Path("_live", table.name))
        for folder in version.parent.iterdir():
            if _RUN.fullmatch(folder.name) and not newest.run - _KEPT_VERSIONS < int(folder.name) <= newest.run:
                shutil.rmtree(folder)

    def tables(self, newest: Manifest) -> list[str]:
        """Return the names of all tables, quarantine's by feed."""
        return tables_in(self.version(newest.run))

    def files(self, newest: Manifest, table: str) -> list[Path]:
        """Return the table's files of the newest version."""
        folders = partitions(self.version(newest.run) / table)
        return [path for folder in folders for path in sorted(folder.glob("*.parquet"))]


def _admit(link: Path) -> None:
    if link.exists() and not link.is_symlink():
        raise ConfigError(f"GOLD_PATH: {link} is in the way of a table of that name; move it away")


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    _admit(link)
    partial = link.with_name(f"_{link.name}.link")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(link)
    sync(link.parent)
