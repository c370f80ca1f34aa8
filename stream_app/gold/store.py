"""The folder of gold: its tables, in one of two forms, and a manifest of each run.

    user_events/              a table: plain Parquet (gold/plain.py), or a Delta table (gold/delta.py)
    _runs/0000000007.json     what run 7 took and made: the manifest. With it the run is committed
    _staging/                 what a run is about to make

A run prepares what it has made, then renames its manifest into place, then has readers see it. A run that died before
its manifest counts for nothing. One that died after it is completed by the next run.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from stream_app.failpoints import reach
from stream_app.gold.delta import DeltaTables
from stream_app.gold.form import Form
from stream_app.gold.manifest import FLOW, Manifest, loaded
from stream_app.gold.plain import VERSIONS, Plain
from stream_app.storage.batch_files import replace_text
from stream_app.storage.layout import staging

_RUN = re.compile(r"\d{10}")
FORMS: Mapping[str, Callable[[Path, int], Form]] = {
    "parquet": lambda root, _kept_hours: Plain(root),
    "delta": DeltaTables,
}
"""By name: how the tables of a gold may be kept, given its folder and for how long old versions are of use."""


@dataclass(frozen=True)
class Gold:
    """The folder of gold."""

    root: Path
    kept_hours: int = 0
    """For how long Delta tables keep old versions."""

    @property
    def staging(self) -> Path:
        """What a run is about to make."""
        return staging(self.root)

    def form(self, name: str) -> Form:
        """Return what keeps the tables."""
        return FORMS[name](self.root, self.kept_hours)

    def newest(self) -> Manifest | None:
        """Return the manifest of the newest committed run; None before the first."""
        runs = self.root / "_runs"
        found = sorted(path for path in runs.glob("*.json") if _RUN.fullmatch(path.stem)) if runs.is_dir() else []
        return loaded(found[-1]) if found else None

    def recover(self) -> Manifest | None:
        """Complete the newest run, where it was committed and died, and clear away what was never committed.

        Return its manifest; None before the first run.
        """
        newest = self.newest()
        shutil.rmtree(self.staging, ignore_errors=True)
        if newest is None:
            shutil.rmtree(self.root / VERSIONS, ignore_errors=True)
            return None
        self.form(newest.format).show(newest)
        return newest

    def commit(self, manifest: Manifest, version: Path) -> None:
        """Make a prepared version the one that readers see, with its manifest. A power cut does not take it back."""
        self.form(manifest.format).prepare(manifest, version)
        reach(FLOW, "prepared")
        runs = self.root / "_runs"
        runs.mkdir(exist_ok=True)
        replace_text(runs / f"{manifest.run:010d}.json", json.dumps(asdict(manifest), indent=1))
        reach(FLOW, "committed")
        self.recover()
        reach(FLOW, "shown")
