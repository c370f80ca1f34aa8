"""One instance on an OUTPUT_PATH: a lock that dies with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from stream_app.errors import ConfigError, StreamAppError
from stream_app.storage.layout import OutputLayout

LOCK_PATIENCE_SECONDS = 10.0
"""How long a service that starts waits for one that was just killed."""
LOOK_SECONDS = 1.0
"""How long a command waits for the lock: longer than others hold it who only look whether a service runs."""
_POLL_SECONDS = 0.2


@contextmanager
def sole_user(root: Path, patience_seconds: float, setting: str = "OUTPUT_PATH") -> Iterator[None]:
    """Hold the lock of a setting's folder, which is made if it is missing.

    A service that was just killed may take a moment to let go, so a held lock is tried for `patience_seconds`.
    Raises ConfigError naming the holder after that, and where the folder cannot be written.
    """
    with _opened(root, setting) as handle:
        if other := _holder(handle, patience_seconds):
            problem = f"{setting}: {root} is in use by process {other}; stop that service first"
            raise ConfigError(f"{problem}, or give this one another {setting}")
        yield


@contextmanager
def sole_run(root: Path, setting: str) -> Iterator[None]:
    """Hold the lock of a setting's folder, or of one in it, as a run that ends by itself.

    Raises StreamAppError where another run holds it, as a later try finds it free; ConfigError where the folder cannot
    be written.
    """
    with _opened(root, setting) as handle:
        if other := _holder(handle, LOCK_PATIENCE_SECONDS):
            problem = f"{setting}: {root} is in use by process {other}, another run; try again when it has ended"
            raise StreamAppError(problem)
        yield


def _opened(root: Path, setting: str) -> TextIO:
    try:
        root.mkdir(parents=True, exist_ok=True)
        return OutputLayout(root).lock.open("a+")
    except OSError as error:
        problem = f"{setting}: cannot write to {root}: {error.strerror}"
        raise ConfigError(problem) from None


def _holder(handle: TextIO, patience_seconds: float) -> str:
    """Return who holds the lock; nothing where it is ours now, for as long as the file is open."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                handle.seek(0)
                return handle.read().strip() or "unknown"
            time.sleep(_POLL_SECONDS)
    with suppress(OSError):  # a full disk, which the sinks tell of; the lock is held all the same
        os.ftruncate(handle.fileno(), 0)
        os.write(handle.fileno(), str(os.getpid()).encode())
    return ""


def is_held(root: Path) -> bool:
    """Whether a service runs on the output folder."""
    try:
        with OutputLayout(root).lock.open("r") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # NFS wants to write for an exclusive one (flock(2))
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
