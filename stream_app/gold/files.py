"""The files of tables in a folder: `<table>/<column>=<day>/*.parquet`. Quarantine's are by feed, a folder deeper."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from stream_app.gold.tables import QUARANTINE


def tables_in(version: Path) -> list[str]:
    """Return the names of all tables, quarantine's by feed."""
    own = [path.name for path in version.glob("*") if path.name != QUARANTINE]
    return own + [f"{QUARANTINE}/{path.name}" for path in version.glob(f"{QUARANTINE}/*")]


def prefix_of(table: str, run: int) -> str:
    """Return how the names begin of the files that a run has written of a table."""
    return f"{Path(table).name}_{run:010d}_"


def link_files(source: Path, target: Path) -> None:
    """Have a folder hold the files of another, by hard links; by copies where the file system has none."""
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        link(path, target / path.name)


def link(path: Path, target: Path) -> None:
    """Have a file be there by another name, too; by a copy where the file system has no hard links."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)
