"""A lock that dies with its holder, so that a kill -9 leaves nothing to clean up."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_PATIENCE_SECONDS = 0.5


def acquire(path: Path, patience: float = _PATIENCE_SECONDS) -> int | None:
    """Hold `path`, made if missing and never removed; None if another process still does after `patience` seconds.

    Returns a file descriptor: the lock is held until it is closed here and in every child that inherited it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:  # not at once: is_held() below holds it for a moment too
                os.close(descriptor)
                return None
            time.sleep(0.05)
        else:
            return descriptor


def is_held(path: Path) -> bool:
    """Whether some process holds `path`."""
    descriptor = acquire(path, patience=0)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None
