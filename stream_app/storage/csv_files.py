"""CSV files as bytes: one header, then records. Nothing here knows their columns."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path


def merge(header: bytes, parts: Sequence[Path], target: Path, *, headed: bool) -> None:
    """One header, then the records of all parts, in order; `headed` says whether each part has a header of its own."""
    with target.open("wb") as out:
        out.write(header)
        for part in parts:
            with part.open("rb") as source:
                source.seek(len(header) if headed else 0)
                shutil.copyfileobj(source, out, 1 << 20)


def ends_with(header: bytes, merged: Path, parts: Sequence[Path]) -> bool:
    """Whether the last records of a merged file are those of the parts, in order; each has a header of its own."""
    size = len(header)
    sizes = [part.stat().st_size - size for part in parts]
    with merged.open("rb") as whole:
        whole.seek(max(size, merged.stat().st_size - sum(sizes)))
        for part in parts:
            with part.open("rb") as source:
                source.seek(size)
                while chunk := source.read(1 << 20):
                    if whole.read(len(chunk)) != chunk:
                        return False
    return True
