"""`<OUTPUT_PATH>/_status.json`: what the running service knows of its flows, for other processes.

They read it by storage/service_status.py. It is written in place, on the blocks that it has had from the start: on a
full disk it must still tell what failed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stream_app.observe.monitor import Monitor
from stream_app.observe.regularly import regularly
from stream_app.sinks.report import REFUSED
from stream_app.storage.layout import OutputLayout

_INTERVAL_SECONDS = 1.0
_BYTES_FOR_A_FLOW = 1024


def write(root: Path, monitor: Monitor) -> None:
    """Overwrite the snapshot. Raises OSError where the disk has no room for the first one."""
    flows = {
        name: {
            "state": str(status.state),
            "restarts": status.restarts,
            "last_error": status.last_error,
            "batch_id": status.batch_id,
            "batch_at": status.batch_at,
            "read_all_at": status.read_all_at,
            "behind": sum(status.behind.values()) if status.behind else None,  # before the first report
            "refused": status.counters[REFUSED],
            "held": sum(status.held.values()),
            "state_rows": status.state_rows,
        }
        for name, status in monitor.statuses.items()
    }
    text = json.dumps({"at": time.time(), "flows": flows}).encode().ljust(_BYTES_FOR_A_FLOW * (len(flows) + 1))
    path = OutputLayout(root).status
    path.touch()
    with path.open("r+b", buffering=0) as file:
        file.write(text)
        file.truncate()


@contextmanager
def kept(root: Path, monitor: Monitor) -> Iterator[None]:
    """Write a snapshot at once, one every second, and a last one at the end."""

    def keep() -> None:
        with suppress(OSError):  # the sinks tell of a full disk; the next second tries again
            write(root, monitor)

    keep()  # or who asks during the start would be told what the service before this one was
    with regularly(keep, _INTERVAL_SECONDS, "snapshot", once_more=True):
        yield
