"""`<OUTPUT_PATH>/_status.json`: what the running service knows of its flows, for commands in other processes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stream_app.monitor import Monitor

_NAME = "_status.json"
_INTERVAL_SECONDS = 1.0


def write(root: Path, monitor: Monitor) -> None:
    """Replace the snapshot, in one step."""
    flows = {
        name: {
            "state": str(status.state),
            "restarts": status.restarts,
            "last_error": status.last_error,
            "batch_id": status.batch_id,
            "batch_at": status.batch_at,
            "behind": sum(status.behind.values()),
        }
        for name, status in monitor.statuses.items()
    }
    partial = root / f"{_NAME}.tmp"
    partial.write_text(json.dumps({"at": time.time(), "flows": flows}))
    partial.replace(root / _NAME)


def read(root: Path) -> dict[str, Any]:
    """The newest snapshot, of a service that may have ended; without one, one of no flows."""
    try:
        return dict(json.loads((root / _NAME).read_text()))
    except FileNotFoundError:
        return {"at": 0.0, "flows": {}}


@contextmanager
def kept(root: Path, monitor: Monitor) -> Iterator[None]:
    """Write a snapshot every second, and a last one at the end."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(_INTERVAL_SECONDS):
            write(root, monitor)

    thread = threading.Thread(target=loop, daemon=True, name="snapshot")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        write(root, monitor)
