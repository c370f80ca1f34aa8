"""A path as a setting: from the root on, wherever the program runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator


def _from_root(value: Path) -> Path:
    """Return the path from the root on: ~ is a home, and `..` after a link what the system takes it for."""
    try:
        path = value.expanduser().absolute()
    except RuntimeError:
        problem = f"{value.parts[0]} is nobody's home"
        raise ValueError(problem) from None
    if re.search("[\0\r\n\ud800-\udfff]", str(path)):
        problem = "a path with a line break, or one that is not UTF-8, is none that all programs can read"
        raise ValueError(problem)
    if not str(path).isascii() and sys.getfilesystemencoding() != "utf-8":
        problem = "a path with letters beyond ASCII needs a locale of UTF-8: set LC_ALL=C.UTF-8, or PYTHONUTF8=1"
        raise ValueError(problem)
    # DuckDB takes * ? and [ for a pattern unless they are in brackets, and then splits names at a backslash.
    if "\\" in str(path) and {*"*?["} & {*str(path)}:
        problem = "a path cannot have both a backslash and one of * ? ["
        raise ValueError(problem)
    return path.resolve() if ".." in path.parts else path


FromRoot = Annotated[Path, AfterValidator(_from_root)]


def named(place: str) -> tuple[str, str]:
    """Return what OpenLineage calls a folder, or what an object store has: a namespace, and a name in it."""
    if "://" not in place:
        return "file", str(Path(place).absolute())
    scheme, _, rest = place.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key.strip("/") or "/"
