"""`<OUTPUT_PATH>/_status.json` as other processes read it; observe/status_file.py writes it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from stream_app.storage.layout import OutputLayout

_ATTEMPTS = 5


def read(root: Path) -> dict[str, Any]:
    """Return the newest snapshot, whose service may have ended; without one, a snapshot of no flows."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError, ValueError):  # a part may be of the second before
            return dict(json.loads(OutputLayout(root).status.read_text()))
    return {"at": 0.0, "flows": {}}
