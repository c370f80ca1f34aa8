"""What the ETL asks of a way to keep tables. A new one is a file with it, and a line in FORMS (gold/store.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from stream_app.gold.manifest import Manifest


class Form(Protocol):
    """Keeps the tables of one gold, and shows them to readers."""

    def before(self, newest: Manifest) -> Path:
        """Return a folder with the tables as the newest run left them: `<table>/<column>=<day>/*.parquet`."""

    def prepare(self, manifest: Manifest, version: Path) -> None:
        """Have on the disk what a run has made, unseen by readers. Its folder is as that of `before`.

        Raises ConfigError where it cannot be shown.
        """

    def show(self, newest: Manifest) -> None:
        """Have readers see what that run has made. It is committed, and may have been shown before."""

    def tables(self, newest: Manifest) -> list[str]:
        """Return the names of all tables, quarantine's by feed."""

    def files(self, newest: Manifest, table: str) -> list[Path]:
        """Return the files whose rows readers see as the table's."""
